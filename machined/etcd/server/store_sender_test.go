package main

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/keelson-os/keelson/pkg/snapshot"
)

func TestUnsent(t *testing.T) {
	for name, test := range map[string]struct{ local, remote, want []kept }{
		"nothing made":            {nil, []kept{ago(3)}, nil},
		"an empty store":          {[]kept{ago(1), ago(3), ago(2)}, nil, []kept{ago(3), ago(2), ago(1)}},
		"all sent":                {[]kept{ago(1), ago(2)}, []kept{ago(1), ago(2)}, nil},
		"one new":                 {[]kept{ago(1), ago(2)}, []kept{ago(2), ago(3)}, []kept{ago(1)}},
		"one in between":          {[]kept{ago(1), ago(2), ago(3)}, []kept{ago(1), ago(3)}, nil},
		"another leader's newer":  {[]kept{ago(2)}, []kept{ago(1)}, nil},
		"another leader's older":  {[]kept{ago(1), ago(4)}, []kept{ago(3)}, []kept{ago(1)}},
		"a damaged one":           {[]kept{damaged(ago(1)), ago(2)}, []kept{ago(3)}, []kept{ago(2)}},
		"a wrong clock's, there":  {[]kept{ago(1)}, []kept{ago(-9000), ago(2)}, []kept{ago(1)}},
		"only such there":         {[]kept{ago(1)}, []kept{ago(-9000)}, []kept{ago(1)}},
		"a wrong clock's, here":   {[]kept{ago(-9000), ago(1)}, []kept{ago(2)}, []kept{ago(1)}},
		"another clock, a little": {[]kept{ago(1)}, []kept{{time: noon.Add(time.Minute)}}, nil},
	} {
		if got := unsent(test.local, test.remote, noon); !slices.Equal(got, test.want) {
			t.Errorf("%s: %v, want %v", name, got, test.want)
		}
	}
}

// fakeStore remembers names.
type fakeStore struct {
	objects []kept
	err     error
	puts    chan string
}

func (f *fakeStore) list(context.Context) ([]kept, error) { return slices.Clone(f.objects), f.err }

func (f *fakeStore) put(_ context.Context, one kept, _ io.ReaderAt, _ snapshot.Sum) error {
	f.objects = append(f.objects, one)
	if f.puts != nil {
		f.puts <- one.name
	}
	return nil
}

func (f *fakeStore) remove(_ context.Context, one kept) error {
	f.objects = slices.DeleteFunc(f.objects, func(there kept) bool { return there.name == one.name })
	return nil
}

func newTestSender(k *testKeeper, to store) *sender {
	return &sender{keeper: k.keeper, open: func() (store, error) { return to, nil }, log: zap.NewNop(), glance: time.Hour}
}

func TestSenderCatchesUpAfterAnOutage(t *testing.T) {
	k := newTestKeeper(t)
	down := &fakeStore{err: errors.New("no route to host")}
	s := newTestSender(k, down)
	synced := ""
	for range 3 {
		k.mustStep(t)
		var err error
		if synced, err = s.step(t.Context(), true, synced); err == nil || synced != "" {
			t.Fatalf("synced up to %q with a store that is down", synced)
		}
		s.note(err)
		k.clock, k.revision = k.clock.Add(time.Hour), k.revision+1
	}
	if !strings.Contains(s.trouble(), "no route to host") {
		t.Errorf("tells %q", s.trouble())
	}
	down.err = nil
	synced, err := s.step(t.Context(), true, synced)
	if err != nil || synced != snapshotName(noon.Add(2*time.Hour), 102) {
		t.Fatalf("synced up to %q, %v", synced, err)
	}
	var names []string
	for _, one := range down.objects {
		names = append(names, one.name)
	}
	if want := []string{snapshotName(noon.Add(time.Hour), 101), synced}; !slices.Equal(names, want) {
		t.Errorf("the store has %v, want %v", names, want)
	}
	down.err = errors.New("asked though there was nothing new")
	if _, err := s.step(t.Context(), true, synced); err != nil {
		t.Error(err)
	}
}

func TestSenderKeepsQuietUnlessItLeads(t *testing.T) {
	k := newTestKeeper(t)
	to := &fakeStore{}
	s := newTestSender(k, to)
	k.mustStep(t)
	if synced, err := s.step(t.Context(), false, ""); synced != "" || err != nil || len(to.objects) > 0 {
		t.Errorf("a follower synced up to %q, %v", synced, err)
	}
}

func TestSenderNeverSendsADamagedSnapshot(t *testing.T) {
	k := newTestKeeper(t)
	to := &fakeStore{}
	s := newTestSender(k, to)
	k.mustStep(t)
	damage(t, k.dir, k.names(t)[0])
	if _, err := s.step(t.Context(), true, ""); err != nil || len(to.objects) > 0 {
		t.Errorf("the store has %v, %v", to.objects, err)
	}
	if err := s.send(t.Context(), to, kept{name: k.names(t)[0]}); !errors.Is(err, snapshot.ErrAltered) {
		t.Errorf("sending it: %v", err)
	}
}

func TestSenderSendsWhatWasJustMade(t *testing.T) {
	k := newTestKeeper(t)
	to := &fakeStore{puts: make(chan string, 1)}
	s := newTestSender(k, to)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); s.run(ctx, func() bool { return true }) }()
	k.mustStep(t)
	select {
	case name := <-to.puts:
		if name != snapshotName(noon, 100) {
			t.Errorf("sent %s", name)
		}
	case <-time.After(deadline):
		t.Error("nothing was sent")
	}
	cancel()
	<-done
}
