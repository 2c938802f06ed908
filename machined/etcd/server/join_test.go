package main

import (
	"context"
	"errors"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/keelson-os/keelson/machined/etcd/reach"
	etcdapi "github.com/keelson-os/keelson/pkg/api/etcd"
)

// memberID is the ID that a node's member has, as this node knows it.
func (n *node) memberID(name string) string {
	n.t.Helper()
	response, err := n.admin().Members(n.t.Context(), &etcdapi.MembersRequest{})
	if err != nil {
		n.t.Fatal(err)
	}
	for _, each := range response.GetMembers() {
		if each.GetName() == name {
			return each.GetId()
		}
	}
	n.t.Fatalf("no member %s", name)
	return ""
}

// says waits until the node tells of a problem.
func (n *node) says(what string) {
	n.t.Helper()
	n.eventually("it says "+what, func() error {
		response, err := n.admin().Status(n.t.Context(), &etcdapi.StatusRequest{})
		if err == nil && !strings.Contains(strings.Join(response.GetProblems(), "; "), what) {
			err = errors.New(strings.Join(response.GetProblems(), "; "))
		}
		return err
	})
}

// A learner that does not catch up is removed and blocks nobody. When it finds
// out, it says why and tries again.
func TestALearnerThatDoesNotCatchUpIsRemoved(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	first, slow, next := c.node("node-1"), c.node("node-2"), c.node("node-3")
	first.flags = []string{"--learner-timeout=6s"}
	slow.flags = []string{"--rejoin-after=50ms"}
	if err := first.service.Bootstrap(t.Context()); err != nil {
		t.Fatal(err)
	}
	first.join()

	// It is added, but its process cannot start as long as its port is taken.
	taken, err := net.Listen("tcp", slow.peerAddress())
	if err != nil {
		t.Fatal(err)
	}
	slow.start()
	first.hasMembers("(learner)(silent) node-1")
	next.start()
	next.says("is being added; members are added one at a time")
	slow.exits("address already in use")
	first.hasMembers("node-1 node-3")
	next.healthy()

	// It starts, and is told that it is no member any more. Then it is added anew.
	taken.Close()
	slow.start()
	slow.healthy()
	first.hasMembers("node-1 node-2 node-3")
	events, err := first.admin().Status(t.Context(), &etcdapi.StatusRequest{})
	if err != nil {
		t.Fatal(err)
	}
	var told []string
	for _, each := range events.GetEvents() {
		told = append(told, each.GetMessage())
	}
	if all := strings.Join(told, "; "); !strings.Contains(all, "did not catch up within 6s: it has not started yet") ||
		!strings.Contains(all, "node-3 caught up and votes now") {
		t.Errorf("events: %s", all)
	}
}

// A learner that is held up after its start is removed, too, and finds the word
// that was left for it.
func TestALearnerThatWasRemovedSaysWhyAndTriesAgain(t *testing.T) {
	t.Parallel()
	c := form(t, 1)
	first, slow := c.nodes[0], c.node("node-2")
	first.kill()
	first.flags = []string{"--learner-timeout=1s"}
	first.join()
	slow.flags = []string{"--rejoin-after=100ms"}
	slow.start()
	slow.eventually("node-2 has a log", slow.hasLog)
	slow.freeze()
	switch got, err := first.members(); {
	case err != nil:
		t.Fatal(err)
	case got == "node-1 node-2":
		t.Skip("it was promoted before it could be held up")
	}
	first.hasMembers("node-1")
	if err := slow.process.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	slow.exits("this node was taken out of the cluster again: it did not catch up within 1s")
	if err := slow.hasLog(); err == nil {
		t.Error("the data of a member that was removed is still there")
	}
	slow.join()
	first.hasMembers("node-1 node-2")
}

// The power fails after a node was added and before its member started.
func TestAPowerCutBetweenAdditionAndStart(t *testing.T) {
	t.Parallel()
	c := form(t, 1)
	first := c.nodes[0]
	for name, loseDisk := range map[string]bool{"node-2": false, "node-3": true} { // in any order
		n := c.node(name)
		taken, err := net.Listen("tcp", n.peerAddress())
		if err != nil {
			t.Fatal(err)
		}
		n.start()
		n.exits("address already in use")
		taken.Close()
		before := first.memberID("")
		if loseDisk {
			if err := os.RemoveAll(n.options.DataDir); err != nil {
				t.Fatal(err)
			}
		}
		n.reboot()
		n.join()
		if same := first.memberID(name) == before; same == loseDisk {
			t.Errorf("%s: with its disk lost %t it is the same member: %t", name, loseDisk, same)
		}
	}
	first.hasMembers("node-1 node-2 node-3")
}

func TestANodeWithAnEmptyDiskReplacesItsMember(t *testing.T) {
	t.Parallel()
	c := form(t, 3)
	first, lost := c.nodes[0], c.nodes[2]
	before := first.memberID("node-3")
	lost.kill()
	first.put("greeting", "hello")
	if err := os.RemoveAll(lost.options.DataDir); err != nil {
		t.Fatal(err)
	}
	lost.reboot()
	lost.join()
	first.hasMembers("node-1 node-2 node-3")
	lost.holds("greeting", "hello")
	if first.memberID("node-3") == before {
		t.Error("it came back as the member that lost its data")
	}
}

func TestANodeThatComesBackWithAnotherAddressIsFound(t *testing.T) {
	t.Parallel()
	c := form(t, 2)
	moved := c.nodes[1]
	moved.kill()
	moved.options.ClientPort, moved.options.PeerPort = freePort(t), freePort(t)
	moved.reboot()
	moved.join()
	c.nodes[0].hasMembers("node-1 node-2")
	moved.kill()
	c.nodes[0].hasMembers("node-1 node-2(silent)")
}

func TestTwoNodesOfOneNameAreRefused(t *testing.T) {
	t.Parallel()
	c := form(t, 2)
	twin := c.node("node-2")
	twin.start()
	twin.says("another node is named node-2, too")
	c.nodes[0].hasMembers("node-1 node-2")
}

func TestNodesOfAnotherClusterAreRefused(t *testing.T) {
	t.Parallel()
	c := form(t, 1)
	otherCA := newCluster(t)
	otherID := newCluster(t)
	otherID.ca, otherID.id = c.ca, "deadbeef"
	for name, other := range map[string]*cluster{"another CA": otherCA, "the same CA, but another cluster": otherID} {
		stranger := other.node("node-2")
		stranger.options.Peers = c.peers
		stranger.reboot()
		ctx, cancel := context.WithCancel(t.Context())
		closed := make(chan error, 1)
		go func() { closed <- stranger.service.Spec().Gate(ctx) }()
		c.nodes[0].eventually(name+": it says so", func() error {
			if waits := stranger.service.Waiting(); !strings.Contains(waits, c.nodes[0].address()+": "+reach.Foreign) {
				return errors.New(waits)
			}
			return nil
		})
		if err := stranger.service.Check(t.Context()); err == nil || !strings.Contains(err.Error(), reach.Foreign) {
			t.Errorf("%s: check: %v", name, err)
		}
		if err := stranger.service.Bootstrap(t.Context()); err == nil || !strings.Contains(err.Error(), reach.Foreign) {
			t.Errorf("%s: a bootstrap: %v", name, err)
		}
		cancel()
		if err := <-closed; !errors.Is(err, context.Canceled) {
			t.Errorf("%s: the gate let it pass: %v", name, err)
		}
		// Nor does the process itself trust its parent with it.
		stranger.start()
		stranger.says("no etcd to join: " + c.nodes[0].address() + ": " + reach.Foreign)
	}
	c.nodes[0].hasMembers("node-1")
}

func TestNoSecondClusterBesideTheFirst(t *testing.T) {
	t.Parallel()
	c := form(t, 1)
	second := c.node("node-2")
	err := second.service.Bootstrap(t.Context())
	if err == nil || !strings.Contains(err.Error(), c.nodes[0].address()+" serves the cluster already") {
		t.Errorf("bootstrapped beside it: %v", err)
	}
	// One that hangs is not nothing, either.
	c.nodes[0].freeze()
	err = second.service.Bootstrap(t.Context())
	if err == nil || !strings.Contains(err.Error(), c.nodes[0].address()+" runs etcd already (no answer within 5s)") {
		t.Errorf("bootstrapped beside one that hangs: %v", err)
	}
}
