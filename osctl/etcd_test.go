package main

import (
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/keelson-os/keelson/pkg/api/etcd"
)

func TestEtcdMembers(t *testing.T) {
	harness, node := newEtcdHarness(t)
	harness.golden(t, "etcd-members.txt", "etcd", "members")
	harness.golden(t, "etcd-members-wide.txt", "etcd", "members", "-o", "wide")
	harness.golden(t, "etcd-members.json", "etcd", "members", "-o", "json")
	harness.golden(t, "etcd-members.name", "etcd", "members", "-o", "name")
	if harness.err.Len() > 0 {
		t.Errorf("complains: %s", harness.err)
	}
	node.members.LeaderId = ""
	if code := harness.run(t, "etcd", "members"); code != exitOK || !strings.Contains(harness.err.String(), "there is no leader") {
		t.Errorf("without a leader: exit code %d, %s", code, harness.err)
	}
}

func TestEtcdStatus(t *testing.T) {
	harness, node := newEtcdHarness(t)
	harness.golden(t, "etcd-status.txt", "etcd", "status")
	node.problem = "etcd has no quorum: bring ha-2 back"
	harness.golden(t, "etcd-status-problem.txt", "etcd", "status")
	harness.golden(t, "etcd-status.yaml", "etcd", "status", "-o", "yaml")
	// All nodes are those that run etcd.
	harness.golden(t, "etcd-status-all.txt", "etcd", "status", "-N", "all")
}

func TestEtcdStatusOfADeadNodeIsOneLine(t *testing.T) {
	harness, _ := newEtcdHarness(t)
	harness.fails(t, exitError, []string{"node ha-3: does not answer\n"}, "etcd", "status", "-N", "ha-1,ha-3")
	if !strings.Contains(harness.out.String(), "leader") {
		t.Errorf("nothing of the other: %s", harness.out)
	}
}

func TestEtcdRemoveAndLeave(t *testing.T) {
	harness, node := newEtcdHarness(t)
	node.err = status.Error(codes.FailedPrecondition, "without ha-2, 1 of 2 members would answer")
	harness.fails(t, exitError, []string{"remove ha-2: without ha-2, 1 of 2"}, "etcd", "remove", "ha-2")
	harness.fails(t, exitUsage, []string{"give --yes"}, "etcd", "leave")
	harness.fails(t, exitError, []string{"leave etcd: without ha-2"}, "etcd", "leave", "--yes")
	if node.did != nil {
		t.Fatalf("did %v", node.did)
	}
	for _, args := range [][]string{
		{"etcd", "remove", "ha-2", "--force"},
		{"etcd", "leave", "--force", "--yes"},
	} {
		if code := harness.run(t, args...); code != exitOK {
			t.Errorf("%v: exit code %d: %s", args, code, harness.err)
		}
	}
	if want := []string{"remove ha-2", "leave"}; !slices.Equal(node.did, want) {
		t.Errorf("did %v, want %v", node.did, want)
	}
}

func TestEtcdLeaveAsks(t *testing.T) {
	harness, node := newEtcdHarness(t)
	harness.live = true
	for _, no := range []string{"", "n\n", "\n", "yes, but\n"} {
		harness.stdin.Reset(no)
		harness.fails(t, exitError, []string{"Take ha-1 out of etcd", "nothing done"}, "etcd", "leave")
	}
	harness.stdin.Reset("Yes\n")
	if code := harness.run(t, "etcd", "leave"); code != exitOK || !slices.Equal(node.did, []string{"leave"}) {
		t.Errorf("exit code %d, did %v: %s", code, node.did, harness.err)
	}
}

func TestEtcdForfeitLeadership(t *testing.T) {
	harness, node := newEtcdHarness(t)
	if code := harness.run(t, "etcd", "forfeit-leadership"); code != exitOK || harness.out.String() != "ha-2 leads now\n" {
		t.Errorf("exit code %d: %s%s", code, harness.out, harness.err)
	}
	node.leader = ""
	if code := harness.run(t, "etcd", "forfeit-leadership"); code != exitOK || !strings.Contains(harness.out.String(), "nothing done") {
		t.Errorf("exit code %d: %s%s", code, harness.out, harness.err)
	}
}

func TestEtcdDefragDoesTheLeaderLast(t *testing.T) {
	harness, node := newEtcdHarness(t)
	harness.golden(t, "etcd-defrag.txt", "etcd", "defrag")
	harness.golden(t, "etcd-defrag.json", "etcd", "defrag", "-o", "json")
	node.did = nil
	harness.golden(t, "etcd-defrag-all.txt", "etcd", "defrag", "-N", "all")
	if want := []string{"defrag ha-2", "defrag ha-1"}; !slices.Equal(node.did, want) {
		t.Errorf("did %v, want %v", node.did, want)
	}
	node.did = nil
	harness.fails(t, exitError, []string{"node ha-3: "}, "etcd", "defrag", "-N", "ha-1,ha-2,ha-3")
	if node.did != nil {
		t.Errorf("with a member missing it did %v", node.did)
	}
	node.err = status.Error(codes.FailedPrecondition, "is being defragmented already")
	harness.fails(t, exitError, []string{"node ha-2: is being defragmented already"}, "etcd", "defrag", "-N", "ha-1,ha-2")
	if strings.Contains(harness.err.String(), "ha-1") {
		t.Errorf("goes on after a failure: %s", harness.err)
	}
}

func TestEtcdAlarms(t *testing.T) {
	harness, node := newEtcdHarness(t)
	if code := harness.run(t, "etcd", "alarms"); code != exitOK || harness.out.String() != "no alarms\n" {
		t.Errorf("exit code %d: %s", code, harness.out)
	}
	node.alarms = []*etcd.Alarm{{Member: "ha-1", Alarm: "NOSPACE"}, {Member: "ha-2", Alarm: "CORRUPT"}}
	harness.golden(t, "etcd-alarms.txt", "etcd", "alarms")
	if node.did != nil {
		t.Errorf("did %v", node.did)
	}
	harness.golden(t, "etcd-alarms-disarm.txt", "etcd", "alarms", "--disarm")
	if !slices.Equal(node.did, []string{"disarm"}) {
		t.Errorf("did %v", node.did)
	}
}

func TestEtcdSnapshots(t *testing.T) {
	harness, node := newEtcdHarness(t)
	harness.golden(t, "etcd-snapshots.txt", "etcd", "snapshots")
	harness.golden(t, "etcd-snapshots.name", "etcd", "snapshots", "-o", "name")
	node.problem = "the last snapshot was not sent: no route to host"
	harness.golden(t, "etcd-snapshots-all.txt", "etcd", "snapshots", "-N", "all")
	harness.golden(t, "etcd-snapshots.yaml", "etcd", "snapshots", "-o", "yaml")
}

func TestEtcdCompletesMembers(t *testing.T) {
	harness, _ := newEtcdHarness(t)
	if code := harness.run(t, "__complete", "etcd", "remove", ""); code != exitOK || !strings.Contains(harness.out.String(), "ha-2\n") {
		t.Errorf("exit code %d: %s", code, harness.out)
	}
}

// What is done to one member names it.
func TestEtcdChangesNeedANamedNode(t *testing.T) {
	harness, node := newEtcdHarness(t)
	if err := harness.addEndpoint("127.0.0.1:4002", "ha-2"); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"etcd", "leave", "--yes"}, {"etcd", "forfeit-leadership"}, {"etcd", "defrag"}, {"bootstrap"},
	} {
		harness.fails(t, exitUsage, []string{"which node?"}, args...)
	}
	if node.did != nil {
		t.Errorf("did %v", node.did)
	}
	if code := harness.run(t, "etcd", "leave", "--yes", "-N", "ha-2"); code != exitOK {
		t.Errorf("exit code %d: %s", code, harness.err)
	}
}
