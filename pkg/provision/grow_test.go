package provision

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keelson-os/keelson/pkg/provision/vnet"
)

func noConfigs(Layout) (map[string][]byte, error) { return nil, nil }

// names lists a cluster's nodes with their addresses.
func names(s Status) []string {
	var list []string
	for _, n := range s.Nodes {
		list = append(list, n.Name+" "+n.IP.String())
	}
	return list
}

func TestAddAndRemoveNodes(t *testing.T) {
	w := newWorld(t)
	useFakeQEMU(t)
	c := w.create(t, nil)
	stale, err := Open("demo") // does not know what follows
	check(t, err)
	before := status(t, c)
	check(t, c.Partition(t.Context(), []string{"cp-1"}, []string{"w-1"}))

	var seen Layout
	added, err := c.AddNodes(t.Context(), []Node{{ControlPlane: true, CPUs: 1}, {Name: "w-2"}}, func(l Layout) (map[string][]byte, error) {
		seen = l
		return map[string][]byte{"demo-3": []byte("three")}, nil
	})
	check(t, err)
	if len(added) != 2 || len(seen.Nodes) != 4 || seen.Nodes[2].Name != "demo-3" || !added[0].API.IsValid() || !added[0].ControlPlane {
		t.Fatalf("added %+v; configured for %+v", added, seen)
	}
	after := status(t, c)
	if want := []string{"cp-1 10.77.0.11", "w-1 10.77.0.12", "demo-3 10.77.0.13", "w-2 10.77.0.14"}; !cmp.Equal(names(after), want) {
		t.Errorf("nodes %v, want %v", names(after), want)
	}
	for i, node := range before.Nodes {
		if after.Nodes[i].NodeLayout != node.NodeLayout || after.Nodes[i].PID != node.PID {
			t.Errorf("a node that was there changed from %+v to %+v", node, after.Nodes[i])
		}
	}
	if config, err := os.ReadFile(c.nodeFile("demo-3", nodeConfig)); err != nil || string(config) != "three" {
		t.Errorf("config %q, error %v", config, err)
	}
	if len(after.Faults) != 2 {
		t.Errorf("the links that were cut are not: %v", after.Faults)
	}
	eventually(t, "all nodes are connected", func() bool {
		for _, n := range status(t, stale).Nodes {
			if !n.Connected {
				return false
			}
		}
		return true
	})
	check(t, stale.PowerCut(t.Context(), "w-2"))

	check(t, c.RemoveNode(t.Context(), "w-1"))
	last := status(t, c)
	if want := []string{"cp-1 10.77.0.11", "demo-3 10.77.0.13", "w-2 10.77.0.14"}; !cmp.Equal(names(last), want) {
		t.Errorf("nodes %v, want %v", names(last), want)
	}
	if len(last.Faults) != 0 {
		t.Errorf("rules of a node that is gone: %v", last.Faults)
	}
	if _, err := os.Stat(c.nodeFile("w-1", "")); err == nil {
		t.Error("its folder is left")
	}
	if conn, err := net.DialTimeout("tcp", before.Nodes[1].API.String(), time.Second); err == nil {
		conn.Close()
		t.Error("its forward is left")
	}
	// Neither name nor address comes again.
	added, err = c.AddNodes(t.Context(), []Node{{}}, noConfigs)
	check(t, err)
	if got := added[0].Name + " " + added[0].IP.String(); got != "demo-5 10.77.0.15" {
		t.Errorf("added %s", got)
	}
}

func TestAddNodesFailsCleanly(t *testing.T) {
	w := newWorld(t)
	useFakeQEMU(t)
	c := w.create(t, nil)
	before := status(t, c)
	add := func(node Node, configure func(Layout) (map[string][]byte, error)) error {
		_, err := c.AddNodes(t.Context(), []Node{node}, configure)
		return err
	}
	for want, err := range map[string]error{
		"is taken":   add(Node{Name: "w-1"}, noConfigs),
		"memory":     add(Node{MemoryMiB: 1}, noConfigs),
		"no secrets": add(Node{}, func(Layout) (map[string][]byte, error) { return nil, errors.New("no secrets") }),
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want one with %q", err, want)
		}
	}
	t.Setenv("FAKE_QEMU_FAILS", "1")
	if err := add(Node{}, noConfigs); err == nil || !strings.Contains(err.Error(), "does not like its arguments") {
		t.Errorf("error %v", err)
	}
	if after := status(t, c); !cmp.Equal(names(after), names(before)) || after.NetworkPID == 0 {
		t.Errorf("left behind: %+v", after)
	}
	folders, err := os.ReadDir(filepath.Join(c.dir, nodesDir))
	if err != nil || len(folders) != 2 {
		t.Errorf("folders %v, error %v", folders, err)
	}
}

func TestTheLastNodeIsNotRemoved(t *testing.T) {
	w := newWorld(t)
	useFakeQEMU(t)
	c := w.create(t, nil)
	check(t, c.RemoveNode(t.Context(), "cp-1"))
	for name, want := range map[string]string{"w-1": "cluster destroy demo", "nobody": "no node nobody"} {
		if err := c.RemoveNode(t.Context(), name); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want one with %q", name, err, want)
		}
	}
}

// The network process may die at any time; what was cut must not heal by that.
func TestFaultsSurviveTheNetworkProcess(t *testing.T) {
	w := newWorld(t)
	useFakeQEMU(t)
	c := w.create(t, nil)
	rule := vnet.FaultRule{From: "cp-1", To: vnet.AnyPort, Fault: vnet.Fault{Delay: time.Second}}
	check(t, c.SetFaults(t.Context(), rule))
	running, err := findProcess(filepath.Join(c.dir, networkRef), c.mark("network"))
	check(t, err)
	check(t, running.Kill(deadline))
	check(t, c.Up(t.Context()))
	if got := status(t, c).Faults; !cmp.Equal(got, []vnet.FaultRule{rule}) {
		t.Errorf("rules %v, want %v", got, rule)
	}
	check(t, c.Heal(t.Context()))
	check(t, c.restartNetwork(t.Context()))
	if got := status(t, c).Faults; len(got) != 0 {
		t.Errorf("rules after Heal: %v", got)
	}
}

func TestStartOfSomeNodes(t *testing.T) {
	w := newWorld(t)
	useFakeQEMU(t)
	c := w.create(t, func(o *Options) { o.Start = []string{"cp-1"} })
	if s := status(t, c); s.Nodes[0].PID == 0 || s.Nodes[1].PID != 0 || s.Bootstrapped {
		t.Errorf("after Create: %+v", s)
	}
	if err := c.Up(t.Context(), "nobody"); err == nil {
		t.Error("started nobody")
	}
	check(t, c.Up(t.Context(), "w-1"))
	check(t, c.SetBootstrapped(context.WithoutCancel(t.Context())))
	if s := status(t, c); s.Nodes[1].PID == 0 || !s.Bootstrapped {
		t.Errorf("after Up: %+v", s)
	}
}

// Clusters that an earlier version made have nodes without numbers.
func TestSpecWithoutNumbers(t *testing.T) {
	dir := t.TempDir()
	old := map[string]any{"version": 1, "nodes": []map[string]string{{"name": "a"}, {"name": "b"}, {"name": "c"}}}
	text, err := json.Marshal(old)
	check(t, err)
	check(t, os.WriteFile(filepath.Join(dir, specFile), text, 0o600))
	s, err := readSpec(dir)
	check(t, err)
	if s.Nodes[0].Number != 0 || s.Nodes[1].Number != 1 || s.Nodes[2].Number != 2 || s.NextNumber != 3 {
		t.Errorf("numbers %+v, next %d", s.Nodes, s.NextNumber)
	}
}
