package main

import (
	"strings"
	"testing"

	"github.com/keelson-os/keelson/pkg/api/cluster"
	"github.com/keelson-os/keelson/pkg/api/etcd"
	"github.com/keelson-os/keelson/pkg/api/machine"
	"github.com/keelson-os/keelson/pkg/provision"
	"github.com/keelson-os/keelson/pkg/provision/vnet"
)

func TestClusterStatus(t *testing.T) {
	fake := newFakeMachines("ha", 3, 1)
	fake.pid = 7
	state, err := fake.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	state.Prepared, state.NetworkPID, state.Dir, state.Subnet, state.Bootstrapped = true, 8, "/state/ha", provision.DefaultSubnet, true
	state.Host.Accel = "tcg"
	harness := newHarness(t, nil)
	// Nobody is asked, or nobody answers.
	if err := harness.printClusterStatus(describeCluster(state, clusterLook{})); err != nil {
		t.Fatal(err)
	}
	compareGolden(t, "cluster-status.txt", harness.out.String())

	// One node has lost its power, one is not a voting member yet, one link is cut.
	state.Nodes[1].PID, state.Nodes[1].State = 0, "off"
	state.Faults = vnet.PartitionRules([]string{"ha-1"}, []string{"ha-4"})
	booted, healthy := &machine.StatusResponse{Stage: machine.StatusResponse_STAGE_RUNNING}, &cluster.HealthResponse{Healthy: true}
	seen := clusterLook{
		bootstrapped: true,
		members:      map[string]*etcd.Member{"ha-1": {Leader: true}, "ha-2": {}, "ha-3": {Learner: true, Message: "1200 entries behind"}},
		kubernetes:   map[string]*cluster.Node{},
	}
	for _, node := range state.Nodes {
		look := nodeLook{NodeStatus: node, nodeAnswer: nodeAnswer{answered: true, status: booted, health: healthy}}
		if node.PID == 0 {
			look.nodeAnswer = nodeAnswer{}
		}
		seen.nodes = append(seen.nodes, look)
		seen.kubernetes[node.Name] = &cluster.Node{Name: node.Name, Version: "v1.37.1", Ready: node.PID != 0}
	}
	harness.out.Reset()
	if err := harness.printClusterStatus(describeCluster(state, seen)); err != nil {
		t.Fatal(err)
	}
	compareGolden(t, "cluster-status-answers.txt", harness.out.String())
}

func TestClusterStatusAsksTheNodes(t *testing.T) {
	harness, fake, _ := newCreateHarness(t, nil)
	fake.bootstrapped.Store(true)
	fake.of(provision.Options{Name: "dev", Nodes: []provision.Node{{Name: "dev-1", ControlPlane: true}}})
	if code := harness.run(t, "cluster", "status", "-o", "json"); code != exitOK {
		t.Fatal(harness.err)
	}
	if got := harness.out.String(); !strings.Contains(got, `"stage": "checking"`) || strings.Count(got, `"nodes"`) != 1 {
		t.Errorf("got %s", got)
	}
}
