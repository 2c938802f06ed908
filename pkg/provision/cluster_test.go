package provision

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keelson-os/keelson/pkg/provision/process"
	"github.com/keelson-os/keelson/pkg/provision/vnet"
)

func status(t *testing.T, c *Cluster) Status {
	t.Helper()
	s, err := c.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestLife(t *testing.T) {
	w := newWorld(t)
	useFakeQEMU(t)
	c := w.create(t, nil)
	if names, err := List(); err != nil || !cmp.Equal(names, []string{"demo"}) {
		t.Errorf("clusters %v, error %v", names, err)
	}

	eventually(t, "all nodes are connected", func() bool {
		nodes := status(t, c).Nodes
		return nodes[0].Connected && nodes[1].Connected
	})
	first := status(t, c)
	for _, node := range first.Nodes {
		if node.State != "running" || node.PID == 0 {
			t.Errorf("node %s is %s, pid %d", node.Name, node.State, node.PID)
		}
		conn, err := net.DialTimeout("tcp", node.API.String(), deadline)
		if err != nil {
			t.Errorf("the forward to node %s: %v", node.Name, err)
			continue
		}
		conn.Close()
	}
	if got := first.Nodes[0].IP.String() + " " + first.Nodes[1].IP.String(); got != "10.77.0.11 10.77.0.12" {
		t.Errorf("addresses %s", got)
	}

	check(t, c.Pause(t.Context(), "cp-1"))
	if s := status(t, c); s.Nodes[0].State != "paused" || s.Nodes[1].State != "running" {
		t.Errorf("after Pause: %+v", s.Nodes)
	}
	check(t, c.Resume(t.Context(), "cp-1"))

	check(t, c.PowerCut(t.Context(), "w-1"))
	check(t, c.PowerCut(t.Context(), "w-1")) // harmless
	if s := status(t, c); s.Nodes[1].State != "off" || s.Nodes[0].State != "running" {
		t.Errorf("after PowerCut: %+v", s.Nodes)
	}
	check(t, c.Start(t.Context(), "w-1"))
	eventually(t, "the node is connected again", func() bool { return status(t, c).Nodes[1].Connected })
	if console, err := os.ReadFile(c.Console("w-1")); err != nil || string(console) != "booted\nbooted\n" {
		t.Errorf("console %q, error %v", console, err)
	}
}

func TestUpStartsOnlyWhatDoesNotRun(t *testing.T) {
	w := newWorld(t)
	useFakeQEMU(t)
	c := w.create(t, nil)
	before := status(t, c)

	c, err := Open("demo")
	check(t, err)
	check(t, c.Up(t.Context()))
	if diff := cmp.Diff(pids(before), pids(status(t, c))); diff != "" {
		t.Errorf("Up changed what ran: %s", diff)
	}

	// As after a reboot of the host: processes and runtime folder are gone.
	check(t, killMarked(c.dir))
	check(t, os.RemoveAll(c.spec.RuntimeDir))
	if s := status(t, c); s.NetworkPID != 0 || s.Nodes[0].PID != 0 {
		t.Fatalf("still running: %+v", s)
	}
	check(t, c.Up(t.Context()))
	after := status(t, c)
	if after.NetworkPID == 0 || after.Nodes[0].State != "running" || after.Nodes[1].State != "running" {
		t.Errorf("after Up: %+v", after)
	}
	for i := range after.Nodes {
		if a, b := before.Nodes[i].NodeLayout, after.Nodes[i].NodeLayout; a != b {
			t.Errorf("a node moved from %+v to %+v", a, b)
		}
	}
}

func pids(s Status) []int {
	list := []int{s.NetworkPID}
	for _, n := range s.Nodes {
		list = append(list, n.PID)
	}
	return list
}

func TestFaultsReachTheNetwork(t *testing.T) {
	w := newWorld(t)
	useFakeQEMU(t)
	c := w.create(t, nil)
	check(t, c.Partition(t.Context(), []string{"cp-1"}, []string{"w-1"}))
	check(t, c.Delay(t.Context(), "cp-1", Gateway, time.Second))
	if got := len(status(t, c).Faults); got != 3 {
		t.Errorf("%d rules, want 3", got)
	}
	for name, err := range map[string]error{
		"unknown node": c.Cut(t.Context(), "nobody", "w-1"),
		"nonsense":     c.Drop(t.Context(), "cp-1", vnet.AnyPort, 200),
	} {
		if err == nil {
			t.Errorf("%s was accepted", name)
		}
	}
	check(t, c.Heal(t.Context()))
	if faults := status(t, c).Faults; len(faults) != 0 {
		t.Errorf("after Heal: %v", faults)
	}
}

func TestConfigure(t *testing.T) {
	w := newWorld(t)
	useFakeQEMU(t)
	var seen Layout
	c := w.create(t, func(o *Options) {
		o.Configure = func(l Layout) (map[string][]byte, error) {
			seen = l
			return map[string][]byte{"w-1": []byte("made")}, nil
		}
	})
	layout, err := c.Layout()
	check(t, err)
	if diff := cmp.Diff(layout, seen, cmp.Comparer(equalText)); diff != "" || !seen.Nodes[0].API.IsValid() {
		t.Errorf("Configure saw another layout: %s", diff)
	}
	for node, want := range map[string]string{"cp-1": "kind: Machine\n", "w-1": "made"} {
		path := c.nodeFile(node, nodeConfig)
		got, err := os.ReadFile(path)
		if err != nil || string(got) != want {
			t.Errorf("config of %s %q, error %v; want %q", node, got, err, want)
		}
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("config of %s: mode %v, error %v", node, info.Mode(), err)
		}
	}
}

func TestCreateFailsCleanly(t *testing.T) {
	tests := map[string]struct {
		prepare func(t *testing.T, w world)
		change  func(*Options)
		want    string
	}{
		"no image": {
			prepare: func(t *testing.T, w world) { check(t, os.Remove(filepath.Join(w.artifacts, rootFile))) },
			want:    "make image",
		},
		"no root hash": {
			prepare: func(t *testing.T, w world) { w.write(t, rootHashFile, []byte("\n")) },
			want:    "make image",
		},
		"no QEMU": {
			prepare: func(t *testing.T, _ world) { t.Setenv("PATH", t.TempDir()) },
			want:    "qemu-system-x86",
		},
		"QEMU fails": {
			prepare: func(t *testing.T, _ world) { t.Setenv("FAKE_QEMU_FAILS", "1") },
			want:    "does not like its arguments",
		},
		"network fails": {
			change: func(o *Options) { o.NetworkCommand = []string{"/bin/sh", "-c", "echo no network today; exit 1"} },
			want:   "no network today",
		},
		"configs fail": {
			change: func(o *Options) {
				o.Configure = func(Layout) (map[string][]byte, error) { return nil, errors.New("no secrets") }
			},
			want: "no secrets",
		},
		"config for nobody": {
			change: func(o *Options) {
				o.Configure = func(Layout) (map[string][]byte, error) { return map[string][]byte{"x": nil}, nil }
			},
			want: "no node x",
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			useFakeQEMU(t)
			if test.prepare != nil {
				test.prepare(t, w)
			}
			opts := testOptions(w.artifacts, self(t))
			if test.change != nil {
				test.change(&opts)
			}
			if _, err := Create(t.Context(), opts); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v, want one with %q", err, test.want)
			}
			wantNothingLeft(t, w)
		})
	}
}

func TestCreateTwice(t *testing.T) {
	w := newWorld(t)
	useFakeQEMU(t)
	c := w.create(t, nil)
	if _, err := Create(t.Context(), testOptions(w.artifacts, self(t))); err == nil || !strings.Contains(err.Error(), "already exists") {
		t.Errorf("error %v, want one that says that it exists", err)
	}
	if s := status(t, c); s.NetworkPID == 0 || s.Nodes[0].State != "running" {
		t.Errorf("the first cluster was disturbed: %+v", s)
	}
}

// wantNothingLeft looks for processes and files of cluster demo.
func wantNothingLeft(t *testing.T, w world) {
	t.Helper()
	dir, err := clusterDir("demo")
	check(t, err)
	found, err := process.Find(func(mark string) bool { return strings.HasPrefix(mark, markPrefix(dir)) })
	if err != nil || len(found) != 0 {
		t.Errorf("processes left: %v, error %v", found, err)
	}
	if _, err := os.Lstat(dir); err == nil {
		t.Errorf("%s is left", dir)
	}
	left, err := filepath.Glob(w.runtime + "/*")
	if err != nil || len(left) != 0 {
		t.Errorf("left in the runtime folder: %v, error %v", left, err)
	}
}

func equalText(a, b interface{ String() string }) bool { return a.String() == b.String() }
