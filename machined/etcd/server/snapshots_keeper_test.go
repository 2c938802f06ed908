package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
)

// database is data that can be made a snapshot of.
type database struct {
	content []byte
	err     error // of writing it
	closed  int
}

func newDatabase() *database {
	content := bytes.Repeat([]byte("keelson "), 3<<20)
	binary.LittleEndian.PutUint32(content[16:], 0xED0CDAED)
	return &database{content: content}
}

func (d *database) Size() int64  { return int64(len(d.content)) }
func (d *database) Close() error { d.closed++; return nil }

func (d *database) WriteTo(w io.Writer) (int64, error) {
	count, err := io.Copy(w, struct{ io.Reader }{bytes.NewReader(d.content)})
	return count, errors.Join(err, d.err)
}

// testKeeper has a clock that stands still, at noon.
type testKeeper struct {
	*keeper
	data     *database
	revision int64
	clock    time.Time
}

func newTestKeeper(t *testing.T) *testKeeper {
	k := &testKeeper{data: newDatabase(), revision: 100, clock: noon}
	k.keeper = &keeper{
		dir: t.TempDir(), interval: time.Hour, number: 2, maxAge: 24 * time.Hour,
		free: func(string) (int64, error) { return 1 << 40, nil },
		now:  func() time.Time { return k.clock },
		log:  zap.NewNop(), made: make(chan struct{}, 1),
	}
	return k
}

func (k *testKeeper) source() (pinned, int64, error) { return k.data, k.revision, nil }

func (k *testKeeper) mustStep(t *testing.T) time.Duration {
	t.Helper()
	wait, err := k.step(t.Context(), k.source)
	if err != nil {
		t.Fatal(err)
	}
	return wait
}

func (k *testKeeper) names(t *testing.T) []string {
	t.Helper()
	entries, err := os.ReadDir(k.dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, entry := range entries {
		names = append(names, entry.Name())
	}
	return names
}

func TestKeeperKeepsTheNewestOnes(t *testing.T) {
	k := newTestKeeper(t)
	for range 4 {
		if wait := k.mustStep(t); wait != time.Hour {
			t.Errorf("after a snapshot it waits %s", wait)
		}
		if wait := k.mustStep(t); wait != time.Hour {
			t.Errorf("right after one it waits %s", wait)
		}
		k.clock, k.revision = k.clock.Add(time.Hour), k.revision+1
	}
	want := []string{"20261120T140000Z-r102.db", "20261120T150000Z-r103.db"}
	if got := k.names(t); !slices.Equal(got, want) {
		t.Errorf("keeps %v, want %v", got, want)
	}
	if k.data.closed != 4 {
		t.Errorf("the data was let go of %d times", k.data.closed)
	}
	info, err := os.Stat(filepath.Join(k.dir, want[0]))
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode() != 0o600 || info.Size() != k.data.Size()+32 {
		t.Errorf("the file has mode %s and %d bytes", info.Mode(), info.Size())
	}
	list, err := k.list(t.Context())
	if err != nil || len(list) != 2 || list[0].damaged || list[0].size != info.Size() {
		t.Errorf("lists %v, %v", list, err)
	}
	if len(k.made) != 1 {
		t.Error("nobody was told of the snapshots")
	}
}

func TestKeeperTellsDamagedOnesAndReplacesThem(t *testing.T) {
	k := newTestKeeper(t)
	k.mustStep(t)
	damage(t, k.dir, k.names(t)[0])
	list, err := k.list(t.Context())
	if err != nil || len(list) != 1 || !list[0].damaged {
		t.Fatalf("a damaged one is listed as %v, %v", list, err)
	}
	// The only one is damaged: the next is due at once, and when it is there the
	// damaged one goes.
	k.clock = k.clock.Add(time.Minute)
	k.mustStep(t)
	if got := k.names(t); !slices.Equal(got, []string{"20261120T120100Z-r100.db"}) {
		t.Errorf("keeps %v", got)
	}
}

// damage flips a bit of a snapshot.
func damage(t *testing.T, dir, name string) {
	t.Helper()
	path := filepath.Join(dir, name)
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	content[len(content)/2] ^= 1
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestKeeperReadsAFileOnce(t *testing.T) {
	k := newTestKeeper(t)
	k.mustStep(t)
	// Unreadable from here on, so that reading it again would be found out.
	if err := os.Truncate(filepath.Join(k.dir, k.names(t)[0]), k.data.Size()+32); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := k.list(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("a file that was changed is not read again: %v", err)
	}
	if _, err := k.list(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := k.list(ctx); err != nil {
		t.Errorf("a file that was read is read again: %v", err)
	}
}

func TestKeeperFailsWithoutLeavingAnything(t *testing.T) {
	for name, test := range map[string]struct {
		breaks func(*testKeeper)
		want   string
	}{
		"no space":         {func(k *testKeeper) { k.free = func(string) (int64, error) { return 1 << 20, nil } }, "too little space"},
		"no answer":        {func(k *testKeeper) { k.free = func(string) (int64, error) { return 0, fs.ErrPermission } }, "permission denied"},
		"cannot be read":   {func(k *testKeeper) { k.data.err = io.ErrClosedPipe }, "write the snapshot"},
		"is no database":   {func(k *testKeeper) { k.data.content[16] = 0 }, "read the new snapshot back"},
		"folder not there": {func(k *testKeeper) { k.dir = filepath.Join(k.dir, "none") }, "list the snapshots"},
	} {
		t.Run(name, func(t *testing.T) {
			k := newTestKeeper(t)
			dir := k.dir
			test.breaks(k)
			_, err := k.step(t.Context(), k.source)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%v, want %s", err, test.want)
			}
			k.dir = dir
			if got := k.names(t); len(got) != 0 {
				t.Errorf("leaves %v", got)
			}
			k.note(err)
			if k.trouble() == "" {
				t.Error("no problem is told")
			}
			k.note(nil)
			if told := k.trouble(); told != "" {
				t.Errorf("still tells %s", told)
			}
		})
	}
}

func TestKeeperWaitsWithoutAProblem(t *testing.T) {
	k := newTestKeeper(t)
	wait, err := k.step(t.Context(), func() (pinned, int64, error) { return nil, 0, errNotNow })
	if wait != firstRetry || err != nil || len(k.names(t)) > 0 {
		t.Errorf("waits %s, %v", wait, err)
	}
}

func TestTidyRemovesOnlyItsOwn(t *testing.T) {
	dir := t.TempDir()
	name := snapshotName(noon, 1)
	other := snapshotName(noon, 2)
	for _, each := range []string{name, name + storedMark, other + partial, other + storedMark, "notes.part", "lost+found.stored"} {
		if err := os.WriteFile(filepath.Join(dir, each), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := tidy(dir); err != nil {
		t.Fatal(err)
	}
	k := &testKeeper{keeper: &keeper{dir: dir}}
	want := []string{name, name + storedMark, "lost+found.stored", "notes.part"}
	slices.Sort(want)
	if got := k.names(t); !slices.Equal(got, want) {
		t.Errorf("leaves %v, want %v", got, want)
	}
}

// run is stopped in the middle of whatever it does.
func TestKeeperEndsWithItsContext(t *testing.T) {
	k := newTestKeeper(t)
	ctx, cancel := context.WithCancel(t.Context())
	writing := make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		k.run(ctx, func() (pinned, int64, error) { return &endless{k.data, writing}, 1, nil })
	}()
	<-writing
	cancel()
	<-done
	if got := k.names(t); len(got) != 0 {
		t.Errorf("leaves %v", got)
	}
}

// endless is data that is never written to its end.
type endless struct {
	*database
	writing chan struct{}
}

func (e *endless) WriteTo(w io.Writer) (int64, error) {
	close(e.writing)
	for {
		if _, err := w.Write(make([]byte, 4096)); err != nil {
			return 0, err
		}
	}
}
