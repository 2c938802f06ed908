package main

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/keelson-os/keelson/pkg/api/cluster"
	"github.com/keelson-os/keelson/pkg/api/etcd"
	"github.com/keelson-os/keelson/pkg/api/machine"
	"github.com/keelson-os/keelson/pkg/provision"
)

var (
	errUnknownCA = status.Error(codes.Unavailable, `connection error: desc = "transport: authentication handshake failed: x509: certificate signed by unknown authority"`)
	errRefused   = status.Error(codes.Unavailable, `connection error: desc = "transport: Error while dialing: dial tcp 127.0.0.1:4100: connect: connection refused"`)
)

func stageAnswer(stage machine.StatusResponse_Stage, phase string, problems ...string) nodeAnswer {
	return nodeAnswer{answered: true, status: &machine.StatusResponse{Stage: stage, Phase: phase, Problems: problems}}
}

// booted is a node whose own checks pass.
func booted() nodeAnswer {
	answer := stageAnswer(machine.StatusResponse_STAGE_RUNNING, "")
	answer.health = &cluster.HealthResponse{Healthy: true}
	return answer
}

func TestStageOf(t *testing.T) {
	unhealthy := booted()
	unhealthy.health = &cluster.HealthResponse{Checks: []*cluster.Check{{Name: "etcd", Message: "no leader; see osctl logs etcd"}, {Name: "x", Ok: true}}}
	formed := func(change func(*clusterLook)) clusterLook {
		seen := clusterLook{
			bootstrapped: true,
			members:      map[string]*etcd.Member{"n": {}, "other": {}},
			kubernetes:   map[string]*cluster.Node{"n": {Ready: true, Version: "v1.37.1"}},
		}
		if change != nil {
			change(&seen)
		}
		return seen
	}
	on := provision.NodeStatus{NodeLayout: provision.NodeLayout{Name: "n", ControlPlane: true}, PID: 7, State: "running", Console: "/n/console"}
	off, paused, worker := on, on, on
	off.PID, paused.State, worker.ControlPlane = 0, "paused", false
	for want, test := range map[string]struct {
		node nodeLook
		seen clusterLook
	}{
		"off":                                 {nodeLook{NodeStatus: off}, formed(nil)},
		"ended: console: /n/console":          {nodeLook{NodeStatus: off, started: true}, formed(nil)},
		"paused: osctl cluster node resume n": {nodeLook{NodeStatus: paused, nodeAnswer: booted()}, formed(nil)},
		"maintenance: console: /n/console":    {nodeLook{NodeStatus: on, nodeAnswer: nodeAnswer{err: errUnknownCA}}, formed(nil)},
		"joining: asks the control-plane nodes for its certificates": {nodeLook{NodeStatus: worker, nodeAnswer: nodeAnswer{err: errUnknownCA}}, formed(nil)},
		"starting": {nodeLook{NodeStatus: on}, clusterLook{}},
		"starting: dial tcp 127.0.0.1:4100: connect: connection refused":  {nodeLook{NodeStatus: on, nodeAnswer: nodeAnswer{err: errRefused}}, clusterLook{}},
		"no answer: dial tcp 127.0.0.1:4100: connect: connection refused": {nodeLook{NodeStatus: on, nodeAnswer: nodeAnswer{err: errRefused, answered: true}}, formed(nil)},
		"booting: storage; the disk is busy":                              {nodeLook{NodeStatus: on, nodeAnswer: stageAnswer(machine.StatusResponse_STAGE_BOOTING, "storage", "the disk is busy\nand more")}, formed(nil)},
		"booted: waits for the cluster to be bootstrapped":                {nodeLook{NodeStatus: on, nodeAnswer: booted()}, clusterLook{}},
		"joining: etcd":              {nodeLook{NodeStatus: on, nodeAnswer: booted()}, formed(func(seen *clusterLook) { delete(seen.members, "n") })},
		"learner: 12 entries behind": {nodeLook{NodeStatus: on, nodeAnswer: booted()}, formed(func(seen *clusterLook) { seen.members["n"] = &etcd.Member{Learner: true, Message: "12 entries behind"} })},
		"checking":                   {nodeLook{NodeStatus: on, nodeAnswer: stageAnswer(machine.StatusResponse_STAGE_RUNNING, "")}, formed(nil)},
		"checking: 1 of 2 checks pass; etcd: no leader":    {nodeLook{NodeStatus: on, nodeAnswer: unhealthy}, formed(nil)},
		"joining: Kubernetes does not know it yet":         {nodeLook{NodeStatus: worker, nodeAnswer: booted()}, formed(func(seen *clusterLook) { delete(seen.kubernetes, "n") })},
		"joining: not Ready in Kubernetes: no pod network": {nodeLook{NodeStatus: worker, nodeAnswer: booted()}, formed(func(seen *clusterLook) { seen.kubernetes["n"] = &cluster.Node{Message: "no pod network"} })},
		"ready: v1.37.1": {nodeLook{NodeStatus: on, nodeAnswer: booted()}, formed(nil)},
		"ready":          {nodeLook{NodeStatus: worker, nodeAnswer: booted()}, clusterLook{bootstrapped: true, noNodes: true, noMembers: true}},
	} {
		stage := stageOf(test.node, test.seen)
		if got := strings.TrimSuffix(stage.name+": "+stage.detail, ": "); got != want || stage.ready != (stage.name == "ready") {
			t.Errorf("got %q (ready %v), want %q", got, stage.ready, want)
		}
	}
}

// look makes a cluster of one letter for each node: o is off, b boots, a has its
// API up, r is ready, e has ended; capital letters are control-plane nodes.
func look(nodes string, change func(*clusterLook)) clusterLook {
	seen := clusterLook{kubernetes: map[string]*cluster.Node{}, members: map[string]*etcd.Member{}}
	for i, letter := range nodes {
		name := fmt.Sprintf("n%d", i+1)
		node := nodeLook{NodeStatus: provision.NodeStatus{PID: 7, State: "running"}, started: true}
		node.Name, node.ControlPlane = name, letter < 'a'
		switch letter | 0x20 {
		case 'o':
			node.PID, node.started = 0, false
		case 'e':
			node.PID = 0
		case 'b':
			node.err = errors.New("no answer")
		case 'a':
			node.nodeAnswer = stageAnswer(machine.StatusResponse_STAGE_BOOTING, "etcd")
		case 'r':
			node.nodeAnswer = booted()
			seen.kubernetes[name], seen.members[name] = &cluster.Node{Ready: true}, &etcd.Member{}
		}
		seen.nodes = append(seen.nodes, node)
	}
	if change != nil {
		change(&seen)
	}
	return seen
}

func TestDecide(t *testing.T) {
	kvm := func(*clusterLook) {}
	emulated := func(seen *clusterLook) { seen.emulated = true }
	bootstrapped := func(seen *clusterLook) { seen.emulated, seen.bootstrapped = true, true }
	fresh := func(seen *clusterLook) { bootstrapped(seen); seen.fresh = true }
	for name, test := range map[string]struct {
		seen clusterLook
		want string
	}{
		"a new one: the second waits for a ready one": {look("AOOo", fresh), "waiting until everything is healthy"},
		"a new one: the first is ready":               {look("ROOo", fresh), "start n2; waiting until everything is healthy"},
		"a new one: the third waits for the second":   {look("RAOo", fresh), "waiting until everything is healthy"},
		"with KVM all start at once":                  {look("BOOo", kvm), "start n2 n3 n4; waiting for the API of n1"},
		"emulated ones wait for the one before":       {look("BOOo", emulated), "waiting for the API of n1"},
		"the API of the first is up":                  {look("AOOo", emulated), "start n2; bootstrapping n1"},
		"the first is bootstrapped, the second boots": {look("RBOo", bootstrapped), "waiting until everything is healthy"},
		"the second is up":                            {look("RAOo", bootstrapped), "start n3; waiting until everything is healthy"},
		"the first was off":                           {look("OOo", emulated), "start n1; waiting for the API of n1"},
		"only the first control-plane node is asked":  {look("BAb", emulated), "waiting for the API of n1"},
		"a ready cluster":                             {look("RRRr", bootstrapped), "waiting until everything is healthy; done"},
		"somebody else bootstrapped it":               {look("Rr", emulated), "waiting until everything is healthy; note; done"},
		"never done without a bootstrap":              {look("Aa", emulated), "bootstrapping n1"},
		"one that hangs does not hold up the others":  {look("RBOo", func(seen *clusterLook) { bootstrapped(seen); seen.nodes[1].on = patience }), "start n3; waiting until everything is healthy"},
		"a worker that boots is waited for":           {look("RRRa", bootstrapped), "waiting until everything is healthy"},
		"a machine that has ended":                    {look("Eb", emulated), "waiting for the API of n1; the machine of node n1 has ended"},
		"with KVM a node that ended is not started":   {look("Re", func(seen *clusterLook) { seen.bootstrapped = true }), "waiting until everything is healthy; the machine of node n2 has ended"},
		"a control-plane node in maintenance":         {look("Bb", func(seen *clusterLook) { seen.nodes[0].err = errUnknownCA }), "waiting for the API of n1; node n1 did not take its config"},
		"a worker without certificates is on its way": {look("Rb", func(seen *clusterLook) { seen.bootstrapped, seen.nodes[1].err = true, errUnknownCA }), "waiting until everything is healthy"},
		"some nodes only, though others are dead":     {look("REr", bootstrapped).of([]string{"n3"}), "waiting until everything is healthy; done"},
		"others that are off stay off":                {look("ROr", bootstrapped).of([]string{"n1"}), "waiting until everything is healthy; done"},
	} {
		next := decide(test.seen)
		var parts []string
		if len(next.start) > 0 {
			parts = append(parts, "start "+strings.Join(next.start, " "))
		}
		parts = append(parts, strings.TrimSpace(next.step+" "+next.bootstrap))
		if next.note {
			parts = append(parts, "note")
		}
		if next.done {
			parts = append(parts, "done")
		}
		if next.err != nil {
			text, _, _ := strings.Cut(next.err.Error(), ":")
			parts = append(parts, strings.TrimSuffix(text, " and is in maintenance mode"))
		}
		if got := strings.Join(parts, "; "); got != test.want {
			t.Errorf("%s: got %q, want %q", name, got, test.want)
		}
	}
}

func TestQuorumWarning(t *testing.T) {
	for controlPlanes, want := range map[int]string{
		1: "", 3: "", 5: "",
		2: "2 control-plane nodes survive no failure: use 1 or 3",
		4: "4 control-plane nodes survive the failure of 1 only, as 3 do: use 3 or 5",
	} {
		if got := quorumWarning(controlPlanes); got != want {
			t.Errorf("%d: %q, want %q", controlPlanes, got, want)
		}
	}
}

func TestSizeWarnings(t *testing.T) {
	nodes := newFakeMachines("n", 3, 1).options.Nodes
	for i := range nodes {
		nodes[i].MemoryMiB, nodes[i].CPUs = 2048, 2
	}
	for name, test := range map[string]struct {
		free, cpus int
		want       []string
	}{
		"enough":      {16000, 4, nil},
		"not told":    {0, 4, nil},
		"less memory": {8000, 4, []string{"want up to 8592 MiB of memory and this machine has 8000 MiB free"}},
		"few CPUs":    {16000, 1, []string{"have 8 CPUs and this machine has 1"}},
	} {
		got := sizeWarnings(nodes, test.free, test.cpus)
		if len(got) != len(test.want) || len(got) > 0 && !strings.Contains(got[0], test.want[0]) {
			t.Errorf("%s: %q, want %q", name, got, test.want)
		}
	}
}
