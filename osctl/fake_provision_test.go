package main

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc"

	"github.com/keelson-os/keelson/pkg/api/cluster"
	"github.com/keelson-os/keelson/pkg/api/machine"
	"github.com/keelson-os/keelson/pkg/provision"
	"github.com/keelson-os/keelson/pkg/provision/vnet"
)

// fakeMachines stands for provision: it makes no machine, and keeps what it
// was asked for.
type fakeMachines struct {
	options provision.Options
	configs map[string][]byte
	pid     int
	err     error

	destroyed    bool
	bootstrapped atomic.Bool // nodes ask too
	// did is what was done to single machines and the network.
	did   []string
	rules []vnet.FaultRule
	// off names the machines that do not run.
	off []string
}

// newFakeMachines has the nodes NAME-1, NAME-2 and so on.
func newFakeMachines(name string, controlPlanes, workers int) *fakeMachines {
	flags := sizeFlags{controlPlanes: controlPlanes, workers: workers}
	nodes, err := flags.nodes(name)
	if err != nil {
		panic(err)
	}
	return &fakeMachines{options: provision.Options{Name: name, Nodes: nodes}}
}

// of makes the fake a cluster that is there.
func (fake *fakeMachines) of(options provision.Options) { fake.options = options }

func (fake *fakeMachines) act(format string, args ...any) error {
	fake.did = append(fake.did, strings.TrimSpace(fmt.Sprintf(format, args...)))
	return fake.err
}

func (fake *fakeMachines) Name() string                     { return fake.options.Name }
func (fake *fakeMachines) OnProgress(func(provision.Event)) {}

func (fake *fakeMachines) Up(_ context.Context, only ...string) error {
	return fake.act("up %s", strings.Join(only, " "))
}

func (fake *fakeMachines) SetBootstrapped(context.Context) error {
	fake.bootstrapped.Store(true)
	return nil
}

func (fake *fakeMachines) Destroy(context.Context) error {
	fake.destroyed = true
	return nil
}

func (fake *fakeMachines) Config(node string) ([]byte, error) { return fake.configs[node], nil }

func (fake *fakeMachines) AddNodes(_ context.Context, nodes []provision.Node, configure func(provision.Layout) (map[string][]byte, error)) ([]provision.NodeLayout, error) {
	before := len(fake.options.Nodes)
	grown := &fakeMachines{options: fake.options}
	for i, node := range nodes {
		node.Name = fmt.Sprintf("%s-%d", fake.Name(), before+i+1)
		grown.options.Nodes = append(slices.Clone(grown.options.Nodes), node)
	}
	layout, err := grown.Layout()
	if err != nil {
		return nil, err
	}
	configs, err := configure(layout)
	if err != nil {
		return nil, err
	}
	fake.options = grown.options
	for name, config := range configs {
		fake.configs[name] = config
	}
	return layout.Nodes[before:], fake.act("add %d", len(nodes))
}

func (fake *fakeMachines) RemoveNode(_ context.Context, node string) error {
	return fake.act("remove %s", node)
}

func (fake *fakeMachines) PowerCut(_ context.Context, node string) error {
	return fake.act("cut %s", node)
}
func (fake *fakeMachines) EmptyDisk(node string) error { return fake.act("empty %s", node) }
func (fake *fakeMachines) Start(_ context.Context, node string) error {
	return fake.act("start %s", node)
}
func (fake *fakeMachines) Pause(_ context.Context, node string) error {
	return fake.act("pause %s", node)
}
func (fake *fakeMachines) Resume(_ context.Context, node string) error {
	return fake.act("resume %s", node)
}

func (fake *fakeMachines) Partition(ctx context.Context, groups ...[]string) error {
	return fake.SetFaults(ctx, vnet.PartitionRules(groups...)...)
}

func (fake *fakeMachines) SetFaults(_ context.Context, rules ...vnet.FaultRule) error {
	fake.rules = append(fake.rules, rules...)
	return fake.err
}

func (fake *fakeMachines) Heal(context.Context) error { return fake.act("heal") }

func (fake *fakeMachines) Layout() (provision.Layout, error) {
	layout := provision.Layout{Name: fake.options.Name, Subnet: provision.DefaultSubnet}
	for i, node := range fake.options.Nodes {
		layout.Nodes = append(layout.Nodes, provision.NodeLayout{
			Name: node.Name, ControlPlane: node.ControlPlane, IP: netip.AddrFrom4([4]byte{10, 77, 0, byte(11 + i)}),
			API:        netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(4100+2*i)),
			Kubernetes: netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(4101+2*i)),
		})
	}
	return layout, nil
}

func (fake *fakeMachines) Status(context.Context) (provision.Status, error) {
	layout, err := fake.Layout()
	state := provision.Status{Name: layout.Name, Bootstrapped: fake.bootstrapped.Load()}
	for _, node := range layout.Nodes {
		one := provision.NodeStatus{NodeLayout: node, PID: fake.pid, State: "running", Console: "/consoles/" + node.Name}
		if slices.Contains(fake.off, node.Name) {
			one.PID, one.State = 0, "off"
		}
		state.Nodes = append(state.Nodes, one)
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

// open finds the fake by its name.
func (fake *fakeMachines) open(name string) (machines, error) {
	if name != fake.options.Name {
		return openMachines(name)
	}
	return fake, nil
}

func newCreateHarness(t *testing.T, silence error) (*harness, *fakeMachines, *fakeCluster) {
	t.Setenv("XDG_STATE_HOME", t.TempDir()) // no clusters
	fake := &fakeMachines{pid: 7}
	node := &fakeCluster{unhealthy: 2, machines: fake}
	harness := newHarness(t, func(server *grpc.Server) {
		cluster.RegisterClusterServiceServer(server, node)
		machine.RegisterMachineServiceServer(server, bootedNode{err: silence})
	})
	harness.createMachines, harness.openMachines = fake.create, fake.open
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
