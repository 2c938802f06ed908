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

	destroyed bool
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
	state := provision.Status{Name: layout.Name}
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

func newCreateHarness(t *testing.T, version error) (*harness, *fakeMachines, *fakeCluster) {
	t.Setenv("XDG_STATE_HOME", t.TempDir()) // no clusters
	fake, node := &fakeMachines{pid: 7}, &fakeCluster{unhealthy: 2}
	harness := newHarness(t, func(server *grpc.Server) {
		cluster.RegisterClusterServiceServer(server, node)
		machine.RegisterMachineServiceServer(server, versionOnly{err: version})
	})
	harness.createMachines = fake.create
	return harness, fake, node
}

type versionOnly struct {
	machine.UnimplementedMachineServiceServer
	err error
}

func (node versionOnly) Version(context.Context, *machine.VersionRequest) (*machine.VersionResponse, error) {
	return &machine.VersionResponse{}, node.err
}
