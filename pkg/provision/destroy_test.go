package provision

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/keelson-os/keelson/pkg/provision/process"
)

// Whatever state a crash left behind, Destroy finds everything.
func TestDestroy(t *testing.T) {
	tests := map[string]func(t *testing.T, c *Cluster){
		"in order":        func(*testing.T, *Cluster) {},
		"no cluster.json": func(t *testing.T, c *Cluster) { check(t, os.Remove(filepath.Join(c.dir, specFile))) },
		"half a cluster.json": func(t *testing.T, c *Cluster) {
			check(t, os.WriteFile(filepath.Join(c.dir, specFile), []byte(`{"version": 1, "na`), 0o600))
		},
		"pids not noted": func(t *testing.T, c *Cluster) {
			check(t, os.Remove(filepath.Join(c.dir, networkRef)))
			check(t, os.Remove(c.nodeFile("cp-1", nodeRef)))
		},
		"folder gone":         func(t *testing.T, c *Cluster) { check(t, os.RemoveAll(c.dir)) },
		"runtime folder gone": func(t *testing.T, c *Cluster) { check(t, os.RemoveAll(c.spec.RuntimeDir)) },
		"never started":       func(t *testing.T, c *Cluster) { check(t, killMarked(c.dir)) },
	}
	for name, damage := range tests {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			useFakeQEMU(t)
			c := w.create(t, nil)
			damage(t, c)
			check(t, Destroy(t.Context(), "demo"))
			wantNothingLeft(t, w)
			check(t, Destroy(t.Context(), "demo")) // again: harmless
			if _, err := Open("demo"); !errors.Is(err, ErrNotFound) {
				t.Errorf("Open after Destroy: %v, want %v", err, ErrNotFound)
			}
			if err := c.Up(t.Context()); !errors.Is(err, ErrNotFound) {
				t.Errorf("Up after Destroy: %v, want %v", err, ErrNotFound)
			}
		})
	}
}

// A noted pid that belongs to another program now must not be touched.
func TestDestroySparesForeignProcesses(t *testing.T) {
	w := newWorld(t)
	useFakeQEMU(t)
	c := w.create(t, nil)
	foreign := exec.CommandContext(t.Context(), "sleep", "1000")
	check(t, foreign.Start())
	var ref process.Ref
	check(t, readJSON(c.nodeFile("w-1", nodeRef), &ref))
	ref.PID = foreign.Process.Pid
	check(t, writeJSON(c.nodeFile("w-1", nodeRef), ref))

	check(t, c.PowerCut(t.Context(), "w-1")) // finds the real one by its mark
	check(t, Destroy(t.Context(), "demo"))
	wantNothingLeft(t, w)
	if err := foreign.Process.Signal(os.Interrupt); err != nil {
		t.Errorf("the foreign process is gone: %v", err)
	}
	_ = foreign.Wait() // ends by the interrupt
}

// Up recognizes a machine whose pid was never noted, instead of starting a second one.
func TestUpAdoptsWhatItDidNotNote(t *testing.T) {
	w := newWorld(t)
	useFakeQEMU(t)
	c := w.create(t, nil)
	before := pids(status(t, c))
	check(t, os.Remove(c.nodeFile("cp-1", nodeRef)))
	check(t, os.Remove(filepath.Join(c.dir, networkRef)))
	check(t, c.Up(t.Context()))
	if after := pids(status(t, c)); after[0] != before[0] || after[1] != before[1] {
		t.Errorf("processes %v, before %v", after, before)
	}
}

// The program that makes a cluster is killed in the middle: the network runs, the nodes do not.
func TestDestroyAfterCreatorWasKilled(t *testing.T) {
	w := newWorld(t)
	useFakeQEMU(t)
	t.Cleanup(func() { check(t, Destroy(context.WithoutCancel(t.Context()), "demo")) })
	creator := exec.CommandContext(t.Context(), self(t), "create-and-hang", w.artifacts)
	creator.Stderr = os.Stderr
	stdout, err := creator.StdoutPipe()
	check(t, err)
	check(t, creator.Start())
	if _, err := stdout.Read(make([]byte, 1)); err != nil {
		t.Fatalf("the creator did not come to the middle: %v", err)
	}
	check(t, creator.Process.Kill())
	_ = creator.Wait() // killed

	c, err := Open("demo")
	check(t, err)
	if s := status(t, c); s.NetworkPID == 0 || s.Prepared {
		t.Errorf("the cluster is not in the middle of being made: %+v", s)
	}
	if err := c.Up(t.Context()); err == nil {
		t.Error("Up of a cluster that was never made completely succeeded")
	}
	check(t, Destroy(t.Context(), "demo"))
	wantNothingLeft(t, w)
}

// createAndHang runs as a process of its own: it makes a cluster, says so in the middle, and waits.
func createAndHang(artifacts string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	opts := testOptions(artifacts, self)
	opts.Configure = func(Layout) (map[string][]byte, error) {
		os.Stdout.WriteString("x")
		select {}
	}
	_, err = Create(context.Background(), opts)
	return err
}
