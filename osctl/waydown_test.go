package main

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/keelson-os/keelson/pkg/api/machine"
	"github.com/keelson-os/keelson/pkg/client"
)

// downEvents are what a node tells on its way down, after one from before it.
var downEvents = []*machine.Event{
	{Kind: "machine", Subject: "node Ready", Action: "reached"},
	{Kind: "phase", Subject: "drain", Action: "started"},
	{Kind: "machine", Subject: "drain", Action: "progress", Message: "evicting default/web-1: its disruption budget allows none now"},
	{Kind: "phase", Subject: "drain", Action: "failed", Message: "pods left after 5m0s: default/web-1"},
	{Kind: "service", Subject: "kubelet", Action: "stopping"},
	{Kind: "machine", Subject: "etcd", Action: "handed over", Message: "to ha-2"},
	{Kind: "phase", Subject: "pods", Action: "done"},
}

func TestTheWayDownIsShown(t *testing.T) {
	harness, node := newMachineHarness(t)
	node.events = downEvents
	connection, err := harness.connect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	watch := harness.watchWayDown(t.Context(), connection)
	watch.hearOut()
	want := "moving its pods to other nodes\n  evicting default/web-1: its disruption budget allows none now\n" +
		"drain: pods left after 5m0s: default/web-1\n  etcd: to ha-2\n"
	if diff := cmp.Diff(want, harness.err.String()); diff != "" {
		t.Error(diff)
	}
	if watch.failed != "drain" || watch.reason != "pods left after 5m0s: default/web-1" {
		t.Errorf("failed: %s: %s", watch.failed, watch.reason)
	}
}

func TestResetTakesOneNodeThatIsNamed(t *testing.T) {
	harness, node := newMachineHarness(t)
	path, err := harness.configPath()
	if err != nil {
		t.Fatal(err)
	}
	if err := client.UpdateConfig(path, func(config *client.Config) error {
		dev := config.Contexts["dev"]
		dev.Endpoints, dev.Nodes = []string{"127.0.0.1:4000", "127.0.0.1:4002"}, []string{"dev-1", "dev-2"}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	harness.fails(t, exitUsage, []string{"which node?"}, "reset", "--yes")
	harness.fails(t, exitUsage, []string{"one at a time"}, "-N", "dev-1,dev-2", "reset", "--yes")
	if len(node.did) > 0 {
		t.Errorf("the node did %v", node.did)
	}
	if code := harness.run(t, "-N", "dev-2", "reset", "--yes"); code != exitOK || !slices.Equal(node.did, []string{"reset"}) {
		t.Errorf("exit code %d: %s; the node did %v", code, harness.err, node.did)
	}
}

func TestReset(t *testing.T) {
	formatted := &machine.Event{Kind: "machine", Subject: "disk", Action: "formatted"}
	for name, test := range map[string]struct {
		events []*machine.Event
		code   int
		want   string
	}{
		"done": {[]*machine.Event{{}, formatted}, exitOK, "the node is reset and has started again"},
		"given up": {
			[]*machine.Event{{}, {Kind: "phase", Subject: "cluster", Action: "failed", Message: "without ha-1, 1 of 2 members would answer"}},
			exitError, "was not reset and has started again as it was: cluster: without ha-1, 1 of 2 members would answer",
		},
	} {
		t.Run(name, func(t *testing.T) {
			harness, node := newMachineHarness(t)
			clock := testNow
			harness.now = func() time.Time { clock = clock.Add(time.Minute); return clock }
			node.uptimes = []time.Duration{10 * time.Second}
			node.events = test.events
			if code := harness.run(t, "reset", "--wait", "--yes"); code != test.code || !strings.Contains(harness.out.String()+harness.err.String(), test.want) {
				t.Errorf("exit code %d, want %q in:\n%s%s", code, test.want, harness.out, harness.err)
			}
			if !slices.Equal(node.did, []string{"reset"}) {
				t.Errorf("the node did %v", node.did)
			}
		})
	}
}

func TestResetAsksFirst(t *testing.T) {
	harness, node := newMachineHarness(t)
	harness.fails(t, exitUsage, []string{"--yes"}, "reset")
	harness.live = true
	harness.stdin.Reset("n\n")
	harness.fails(t, exitError, []string{"Take dev-1 out of its cluster"}, "reset")
	if len(node.did) > 0 {
		t.Errorf("the node did %v", node.did)
	}
	harness.stdin.Reset("y\n")
	if code := harness.run(t, "reset", "--force"); code != exitOK || !slices.Equal(node.did, []string{"forced reset"}) {
		t.Errorf("exit code %d: %s; the node did %v", code, harness.err, node.did)
	}
	node.did = nil
	if code := harness.run(t, "reset", "--yes", "--overwrite"); code != exitOK || !slices.Equal(node.did, []string{"reset and overwrite"}) {
		t.Errorf("exit code %d: %s; the node did %v", code, harness.err, node.did)
	}
	for labels, want := range map[string]string{
		"STATE":           "Restart dev-1 and erase STATE, so that it waits for a config?",
		"EPHEMERAL":       "Take dev-1 out of its cluster and erase EPHEMERAL?",
		"EPHEMERAL,STATE": "Take dev-1 out of its cluster and erase EPHEMERAL and STATE?",
	} {
		node.did = nil
		harness.stdin.Reset("y\n")
		harness.err.Reset()
		if code := harness.run(t, "reset", "--system-labels", labels); code != exitOK || !slices.Equal(node.did, []string{"reset " + strings.ReplaceAll(labels, ",", " ")}) || !strings.Contains(harness.err.String(), want) {
			t.Errorf("exit code %d: %s; the node did %v", code, harness.err, node.did)
		}
	}
	node.resetErr = status.Error(codes.FailedPrecondition, "this node has the only copy of the cluster's data")
	harness.fails(t, exitError, []string{"reset: this node has the only copy"}, "reset", "--yes")
}

func TestAResetNodeMayWaitForAConfig(t *testing.T) {
	harness, node := newMachineHarness(t)
	clock := testNow
	harness.now = func() time.Time { clock = clock.Add(time.Minute); return clock }
	node.statsErr = status.Error(codes.Unavailable, `connection error: desc = "transport: authentication handshake failed: x509: certificate signed by unknown authority"`)
	if code := harness.run(t, "reset", "--wait", "--yes"); code != exitOK || !strings.Contains(harness.out.String(), "waits for a config") {
		t.Errorf("exit code %d: %s%s", code, harness.out, harness.err)
	}
}
