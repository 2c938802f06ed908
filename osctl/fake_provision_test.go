package main

import (
	"context"
	"net/netip"
	"testing"

	"google.golang.org/grpc"

	"github.com/keelson-os/keelson/pkg/api/cluster"
	"github.com/keelson-os/keelson/pkg/api/machine"
	"github.com/keelson-os/keelson/pkg/provision"
)

// fakeMachines stands for provision: it makes no machine, and keeps what it
// was asked for.
type fakeMachines struct {
	options provision.Options
	configs map[string][]byte
	pid     int
	err     error

	destroyed, bootstrapped bool
	// started names the nodes that were switched on one by one.
	started []string
}

func (fake *fakeMachines) Up(_ context.Context, only ...string) error {
	fake.started = append(fake.started, only...)
	return nil
}

func (fake *fakeMachines) SetBootstrapped(context.Context) error {
	fake.bootstrapped = true
	return nil
}

func (fake *fakeMachines) Destroy(context.Context) error {
	fake.destroyed = true
	return nil
}

func (fake *fakeMachines) Layout() (provision.Layout, error) {
	layout := provision.Layout{Name: fake.options.Name}
	for i, node := range fake.options.Nodes {
		layout.Nodes = append(layout.Nodes, provision.NodeLayout{
			Name: node.Name, ControlPlane: node.ControlPlane, IP: netip.AddrFrom4([4]byte{10, 77, 0, byte(11 + i)}),
			API:        netip.MustParseAddrPort("127.0.0.1:4100"),
			Kubernetes: netip.MustParseAddrPort("127.0.0.1:4101"),
		})
	}
	return layout, nil
}

func (fake *fakeMachines) Status(context.Context) (provision.Status, error) {
	layout, err := fake.Layout()
	state := provision.Status{Name: layout.Name, Bootstrapped: fake.bootstrapped}
	for _, node := range layout.Nodes {
		state.Nodes = append(state.Nodes, provision.NodeStatus{NodeLayout: node, PID: fake.pid, Console: "/consoles/" + node.Name})
	}
	return state, err
}

func (fake *fakeMachines) create(_ context.Context, options provision.Options) (machines, error) {
	fake.options = options
	if fake.err != nil {
		return nil, fake.err
	}
	if options.Configure != nil {
		layout, err := fake.Layout()
		if err != nil {
			return nil, err
		}
		if fake.configs, err = options.Configure(layout); err != nil {
			return nil, err
		}
	}
	options.Progress(provision.Event{Node: "new-1", Message: "starting the machine"})
	return fake, nil
}

func newCreateHarness(t *testing.T, silence error) (*harness, *fakeMachines, *fakeCluster) {
	t.Setenv("XDG_STATE_HOME", t.TempDir()) // no clusters
	fake, node := &fakeMachines{pid: 7}, &fakeCluster{unhealthy: 2}
	harness := newHarness(t, func(server *grpc.Server) {
		cluster.RegisterClusterServiceServer(server, node)
		machine.RegisterMachineServiceServer(server, bootedNode{err: silence})
	})
	harness.createMachines = fake.create
	return harness, fake, node
}

// bootedNode has booted, or does not answer.
type bootedNode struct {
	machine.UnimplementedMachineServiceServer
	err error
}

func (node bootedNode) Status(context.Context, *machine.StatusRequest) (*machine.StatusResponse, error) {
	return &machine.StatusResponse{Stage: machine.StatusResponse_STAGE_RUNNING}, node.err
}
