package main

import (
	"errors"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	etcdapi "github.com/keelson-os/keelson/pkg/api/etcd"
)

// refused checks an error's code and a part of its message.
func refused(t *testing.T, err error, code codes.Code, part string) {
	t.Helper()
	if status.Code(err) != code || !strings.Contains(err.Error(), part) {
		t.Errorf("got %v, want %s with %q", err, code, part)
	}
}

// awaitLeader waits until the nodes have one and returns it.
func (c *cluster) awaitLeader(nodes ...*node) *node {
	c.t.Helper()
	var leader *node
	nodes[0].eventually("there is a leader", func() error {
		for _, each := range nodes {
			answer, err := each.admin().Status(c.t.Context(), &etcdapi.StatusRequest{})
			if err == nil && answer.GetLeader() {
				leader = each
				return nil
			}
		}
		return errors.New("none leads")
	})
	return leader
}

func TestRemovalThatWouldStopTheClusterIsRefused(t *testing.T) {
	t.Parallel()
	c := form(t, 3)
	first, second, third := c.nodes[0], c.nodes[1], c.nodes[2]
	admin := first.admin()
	_, err := admin.Remove(t.Context(), &etcdapi.RemoveRequest{Member: "node-9"})
	refused(t, err, codes.NotFound, "node-2 ")

	third.kill()
	c.awaitLeader(first, second)
	_, err = admin.Remove(t.Context(), &etcdapi.RemoveRequest{Member: "node-2"})
	refused(t, err, codes.FailedPrecondition, "without node-2, 1 of 2 members would answer (node-1) and 2 must: bring node-3 back or remove it first")
	_, err = second.admin().Leave(t.Context(), &etcdapi.LeaveRequest{})
	refused(t, err, codes.FailedPrecondition, "without node-2")
	// Nor by way of etcd's own API.
	members, err := first.client().MemberList(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, each := range members.Members {
		if each.Name == "node-2" {
			_, err = first.client().MemberRemove(t.Context(), each.ID)
			if err == nil || !strings.Contains(err.Error(), "without node-2") {
				t.Errorf("etcd's own API removed it: %v", err)
			}
		}
	}
	if _, err := first.client().MemberAdd(t.Context(), []string{"https://127.0.0.1:1"}); err == nil {
		t.Error("a member was added that votes at once")
	}
	first.hasMembers("node-1 node-2 node-3(silent)")

	if _, err = admin.Remove(t.Context(), &etcdapi.RemoveRequest{Member: third.idSeenBy(first)}); err != nil {
		t.Fatalf("the member that is gone: %v", err)
	}
	first.hasMembers("node-1 node-2")
	first.put("greeting", "hello")

	// The one that was removed while it was down finds out, and stays out.
	third.start()
	third.exits("this node's member was removed from the cluster; osctl reset makes it join anew")
	third.staysOut()
}

// idSeenBy is the node's member ID as another node has it.
func (n *node) idSeenBy(other *node) string { return other.memberID(n.options.Hostname) }

// staysOut checks that the node does not start its member again by itself.
func (n *node) staysOut() {
	n.t.Helper()
	n.reboot()
	closed := make(chan error, 1)
	ctx := n.t.Context()
	go func() { closed <- n.service.Spec().Gate(ctx) }()
	n.eventually("its gate stays closed", func() error {
		if waits := n.service.Waiting(); !strings.Contains(waits, "osctl reset makes it join anew") {
			return errors.New(waits)
		}
		return nil
	})
	if err := n.service.Check(ctx); err == nil || !strings.Contains(err.Error(), "was removed") {
		n.t.Errorf("check: %v", err)
	}
	if err := n.service.Bootstrap(ctx); err == nil || !strings.Contains(err.Error(), "was removed") {
		n.t.Errorf("bootstrap: %v", err)
	}
	select {
	case err := <-closed:
		n.t.Errorf("the gate opened: %v", err)
	default:
	}
}

func TestForceRemovesWhatOthersNeed(t *testing.T) {
	t.Parallel()
	c := form(t, 3)
	first, second := c.nodes[0], c.nodes[1]
	c.nodes[2].kill()
	c.awaitLeader(first, second)
	if _, err := first.admin().Remove(t.Context(), &etcdapi.RemoveRequest{Member: "node-2", Force: true}); err != nil {
		t.Fatal(err)
	}
	second.exits("this node's member was removed from the cluster")
	second.staysOut()
	_, err := first.admin().Remove(t.Context(), &etcdapi.RemoveRequest{Member: "node-3"})
	refused(t, err, codes.Unavailable, "etcd has no quorum: 1 of 2 members answers (node-1); bring node-3 back")
}

func TestTheLastMemberStays(t *testing.T) {
	t.Parallel()
	c := form(t, 1)
	for _, force := range []bool{false, true} {
		_, err := c.nodes[0].admin().Leave(t.Context(), &etcdapi.LeaveRequest{Force: force})
		refused(t, err, codes.FailedPrecondition, "node-1 is the only voting member")
	}
	c.nodes[0].put("greeting", "hello")
}

func TestALeaderHandsOverBeforeItLeaves(t *testing.T) {
	t.Parallel()
	c := form(t, 3)
	leader := c.awaitLeader(c.nodes...)
	answer, err := leader.admin().ForfeitLeadership(t.Context(), &etcdapi.ForfeitLeadershipRequest{})
	if err != nil || answer.GetLeader() == "" || answer.GetLeader() == leader.options.Hostname {
		t.Fatalf("handed over to %q, %v", answer.GetLeader(), err)
	}
	if answer, err = leader.admin().ForfeitLeadership(t.Context(), &etcdapi.ForfeitLeadershipRequest{}); err != nil || answer.GetLeader() != "" {
		t.Errorf("one that does not lead handed over to %q, %v", answer.GetLeader(), err)
	}
	leader = c.awaitLeader(c.nodes...)
	if _, err := leader.admin().Leave(t.Context(), &etcdapi.LeaveRequest{}); err != nil {
		t.Fatal(err)
	}
	leader.exits("was removed from the cluster")
	if said := leader.stderr.String(); !strings.Contains(said, "handed the leadership over") {
		t.Errorf("it left as the leader\n%s", said)
	}
	for _, each := range c.nodes {
		if each != leader {
			each.put("from", each.options.Hostname)
		}
	}
}

func TestWithoutAQuorumTheAPISaysWhatToDo(t *testing.T) {
	t.Parallel()
	c := form(t, 3)
	last := c.nodes[0]
	last.put("greeting", "hello")
	c.nodes[1].kill()
	c.nodes[2].kill()
	advice := "etcd has no quorum: 1 of 3 members answers (node-1); bring node-2 or node-3 back, or take a snapshot here " +
		"(osctl -N node-1 etcd snapshot FILE), reset the control-plane nodes (osctl reset --force) and run osctl bootstrap --recover-from FILE on one"
	check := func(when string) {
		t.Helper()
		last.hasMembers("node-1 node-2(silent) node-3(silent)")
		last.says(advice)
		began := time.Now()
		_, err := last.admin().Remove(t.Context(), &etcdapi.RemoveRequest{Member: "node-2", Force: true})
		refused(t, err, codes.Unavailable, advice)
		if took := time.Since(began); took > 10*time.Second {
			t.Errorf("%s: the answer took %s", when, took)
		}
		if err := last.service.Check(t.Context()); err == nil || !strings.Contains(err.Error(), advice) {
			t.Errorf("%s: check: %v", when, err)
		}
		if _, err := last.snapshot(); err != nil {
			t.Errorf("%s: snapshot: %v", when, err)
		}
	}
	check("after the others died")
	last.kill()
	last.reboot()
	last.start()
	check("after a restart")

	c.nodes[1].start()
	last.healthy()
	last.holds("greeting", "hello")
}

func TestAlarmsAndDefragmentation(t *testing.T) {
	t.Parallel()
	n := form(t, 1).nodes[0]
	if _, err := n.admin().Defragment(t.Context(), &etcdapi.DefragmentRequest{}); err != nil {
		t.Errorf("defragment: %v", err)
	}
	n.raise(t)
	n.says("node-1: the database is full (NOSPACE)")
	alarms, err := n.admin().Alarms(t.Context(), &etcdapi.AlarmsRequest{Disarm: true})
	if err != nil || len(alarms.GetAlarms()) != 1 || alarms.GetAlarms()[0].GetMember() != "node-1" {
		t.Errorf("took back %v, %v", alarms.GetAlarms(), err)
	}
	if alarms, err = n.admin().Alarms(t.Context(), &etcdapi.AlarmsRequest{}); err != nil || len(alarms.GetAlarms()) != 0 {
		t.Errorf("left are %v, %v", alarms.GetAlarms(), err)
	}
	if err := n.service.Check(t.Context()); err != nil {
		t.Error(err)
	}
}
