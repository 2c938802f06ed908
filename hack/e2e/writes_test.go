package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/keelson-os/keelson/pkg/api/workload"
	"github.com/keelson-os/keelson/pkg/client"
)

// writeDeadline bounds one write: on a busy emulated machine a commit through
// three members takes seconds.
const writeDeadline = 20 * time.Second

// writer writes small objects one after the other, through one endpoint after
// the other, and remembers what was acknowledged.
type writer struct {
	run    string
	access *client.Context
	stop   context.CancelFunc
	ended  chan struct{}

	mu           sync.Mutex
	acknowledged []string
	last         time.Time // of an acknowledgement
	progress     chan struct{}
}

// startWriter begins to write through the context's endpoints, those at the
// indexes first.
func startWriter(t *testing.T, run string, first ...int) *writer {
	t.Helper()
	access := currentAccess(t)
	var endpoints []string
	for _, index := range first {
		endpoints = append(endpoints, access.Endpoints[index])
	}
	for _, endpoint := range access.Endpoints {
		if !slices.Contains(endpoints, endpoint) {
			endpoints = append(endpoints, endpoint)
		}
	}
	access.Endpoints = endpoints
	ctx, cancel := context.WithCancel(t.Context())
	w := &writer{run: run, access: access, stop: cancel, ended: make(chan struct{}), progress: make(chan struct{}, 1)}
	t.Cleanup(cancel)
	go w.write(ctx)
	return w
}

func currentAccess(t *testing.T) *client.Context {
	t.Helper()
	config, err := client.LoadConfig(os.Getenv("OSCTL_CONFIG"))
	if err != nil {
		t.Fatal(err)
	}
	access, err := config.Get("")
	if err != nil {
		t.Fatal(err)
	}
	return access
}

func (w *writer) write(ctx context.Context) {
	defer close(w.ended)
	for n, at := 0, 0; ctx.Err() == nil; n++ {
		name := fmt.Sprintf("%s-%d", w.run, n)
		if err := w.put(ctx, w.access.Endpoints[at%len(w.access.Endpoints)], name); err != nil {
			at++ // the next one may be better
			select {
			case <-time.After(100 * time.Millisecond):
			case <-ctx.Done():
			}
			continue
		}
		w.mu.Lock()
		w.acknowledged, w.last = append(w.acknowledged, name), time.Now()
		w.mu.Unlock()
		select {
		case w.progress <- struct{}{}:
		default:
		}
	}
}

// put writes one object and returns nil when the cluster said that it is kept.
func (w *writer) put(ctx context.Context, endpoint, name string) error {
	ctx, cancel := context.WithTimeout(ctx, writeDeadline)
	defer cancel()
	options := w.access.Options("")
	options.Endpoint, options.Fallbacks = endpoint, nil
	node, err := client.Dial(ctx, options)
	if err != nil {
		return err
	}
	defer node.Close()
	manifest := "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: " + name + ", labels: {run: " + w.run + "}}\n"
	stream, err := node.Workload.Apply(ctx, &workload.ApplyRequest{Manifests: []*workload.Manifest{{Source: "-", Content: []byte(manifest)}}})
	if err != nil {
		return err
	}
	created := false
	for {
		answer, err := stream.Recv()
		switch {
		case errors.Is(err, io.EOF) && created:
			return nil
		case errors.Is(err, io.EOF):
			return errors.New("no answer")
		case err != nil:
			return err
		case answer.GetResult().GetError() != "":
			return errors.New(answer.GetResult().GetError())
		}
		created = true
	}
}

// more waits for so many acknowledgements from now on, and returns how long
// the first one took.
func (w *writer) more(t *testing.T, count int) time.Duration {
	t.Helper()
	began := time.Now()
	w.mu.Lock()
	have := len(w.acknowledged)
	w.mu.Unlock()
	var first time.Duration
	deadline := time.After(settleDeadline)
	for {
		w.mu.Lock()
		now := len(w.acknowledged)
		w.mu.Unlock()
		if now > have && first == 0 {
			first = time.Since(began)
		}
		if now >= have+count {
			return first
		}
		select {
		case <-w.progress:
		case <-deadline:
			t.Fatalf("%d of %d writes were acknowledged within %s", now-have, count, settleDeadline)
		}
	}
}

// end stops writing and returns what was acknowledged.
func (w *writer) end() []string {
	w.stop()
	<-w.ended
	return w.acknowledged
}

// foundAgain fails the test for every name that the cluster does not hold.
func foundAgain(t *testing.T, run string, names []string) {
	t.Helper()
	var found string
	eventually(t, "the written objects are listed", func() (err error) {
		found, err = osctlFor(settleDeadline, nil, "get", "configmaps", "-l", "run="+run, "-o", "name")
		return err
	})
	have := map[string]bool{}
	for _, line := range strings.Fields(found) {
		have[strings.TrimPrefix(line, "configmap/")] = true
	}
	for _, name := range names {
		if !have[name] {
			t.Errorf("the write of %s was acknowledged, and is lost", name)
		}
	}
	t.Logf("%d acknowledged writes, %d found", len(names), len(have))
}
