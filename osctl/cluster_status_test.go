package main

import (
	"testing"

	"github.com/keelson-os/keelson/pkg/provision"
)

func TestClusterStatus(t *testing.T) {
	fake := &fakeMachines{options: provision.Options{Name: "new", Nodes: []provision.Node{{Name: "new-1", ControlPlane: true}}}, pid: 7}
	state, err := fake.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	state.Prepared, state.NetworkPID, state.Dir, state.Subnet = true, 8, "/state/new", provision.DefaultSubnet
	state.Host.Accel, state.Nodes[0].State = "tcg", "running"
	harness := newHarness(t, nil)
	if err := harness.printClusterStatus(state); err != nil {
		t.Fatal(err)
	}
	compareGolden(t, "cluster-status.txt", harness.out.String())
}
