package main

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/keelson-os/keelson/pkg/api/cluster"
	"github.com/keelson-os/keelson/pkg/api/etcd"
	"github.com/keelson-os/keelson/pkg/api/machine"
	"github.com/keelson-os/keelson/pkg/api/workload"
	"github.com/keelson-os/keelson/pkg/client"
	"github.com/keelson-os/keelson/pkg/machineconfig"
	"github.com/keelson-os/keelson/pkg/provision"
)

// leavingNode records how it is asked to go.
type leavingNode struct {
	bootedNode
	fake *fakeMachines
}

func (node leavingNode) Shutdown(context.Context, *machine.ShutdownRequest) (*machine.ShutdownResponse, error) {
	node.fake.pid = 0
	return &machine.ShutdownResponse{}, node.fake.act("shutdown")
}

// leavingMember is its etcd.
type leavingMember struct {
	etcd.UnimplementedEtcdServiceServer
	fake     *fakeMachines
	leaveErr error
}

func (node leavingMember) Leave(context.Context, *etcd.LeaveRequest) (*etcd.LeaveResponse, error) {
	if node.leaveErr != nil {
		return nil, node.leaveErr
	}
	return &etcd.LeaveResponse{}, node.fake.act("leave")
}

func (node leavingMember) Remove(_ context.Context, request *etcd.RemoveRequest) (*etcd.RemoveResponse, error) {
	return &etcd.RemoveResponse{}, node.fake.act("etcd remove %s", request.GetMember())
}

// Members knows all control-plane nodes as voting ones.
func (node leavingMember) Members(context.Context, *etcd.MembersRequest) (*etcd.MembersResponse, error) {
	answer := &etcd.MembersResponse{}
	for _, machine := range node.fake.options.Nodes {
		if machine.ControlPlane {
			answer.Members = append(answer.Members, &etcd.Member{Name: machine.Name})
		}
	}
	return answer, nil
}

// newGrownHarness has cluster dev, of three control-plane nodes and a worker,
// that is up.
func newGrownHarness(t *testing.T, leaveErr error) (*harness, *fakeMachines, *fakeWorkloads) {
	t.Helper()
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	fake := newFakeMachines("dev", 3, 1)
	fake.pid = 7
	fake.bootstrapped.Store(true)
	layout, err := fake.Layout()
	if err != nil {
		t.Fatal(err)
	}
	configs := &clusterConfigs{secrets: testSecrets()}
	configs.patches.worker = []machineconfig.Patch{{Name: "worker.yaml", Text: []byte("apiVersion: keelson/v1\nkind: Machine\nkubelet: {nodeLabels: {disk: fast}}\n")}}
	if fake.configs, err = configs.nodes(layout); err != nil {
		t.Fatal(err)
	}
	workloads := &fakeWorkloads{results: []*workload.ObjectResult{{Object: "node/dev-3", Action: "deleted"}}}
	harness := newHarness(t, func(server *grpc.Server) {
		cluster.RegisterClusterServiceServer(server, &fakeCluster{machines: fake})
		machine.RegisterMachineServiceServer(server, leavingNode{fake: fake})
		etcd.RegisterEtcdServiceServer(server, leavingMember{fake: fake, leaveErr: leaveErr})
		workload.RegisterWorkloadServiceServer(server, workloads)
	})
	harness.openMachines = fake.open
	access, err := clusterContext(layout, testSecrets(), harness.app)
	if err != nil {
		t.Fatal(err)
	}
	if err := harness.saveContext("dev", access); err != nil {
		t.Fatal(err)
	}
	return harness, fake, workloads
}

func (harness *harness) context(t *testing.T) *client.Context {
	t.Helper()
	config, err := harness.loadConfig()
	if err != nil {
		t.Fatal(err)
	}
	return config.Contexts["dev"]
}

func TestPowerOfNodes(t *testing.T) {
	for args, test := range map[string]struct{ did, says string }{
		"kill dev-1":                  {"cut dev-1", "dev-1 is off; osctl cluster node start switches it on"},
		"start dev-1 --cluster dev":   {"start dev-1", "dev-1 is on"},
		"pause dev-1":                 {"pause dev-1", "resume lets it go on"},
		"resume dev-1":                {"resume dev-1", "dev-1 goes on"},
		"power-cut dev-1 dev-2 dev-3": {"cut dev-1,cut dev-2,cut dev-3,start dev-1,start dev-2,start dev-3", "dev-3 lost its power"},
		"replace-disk dev-2":          {"cut dev-2,empty dev-2,start dev-2", "dev-2 boots from an empty disk"},
	} {
		harness, fake, _ := newGrownHarness(t, nil)
		if code := harness.run(t, append([]string{"cluster", "node"}, strings.Fields(args)...)...); code != exitOK {
			t.Errorf("%s: exit code %d: %s", args, code, harness.err)
		}
		if got := strings.Join(fake.did, ","); got != test.did || !strings.Contains(harness.out.String(), test.says) {
			t.Errorf("%s: did %s, said %s", args, got, harness.out)
		}
	}
	harness, fake, _ := newGrownHarness(t, nil)
	harness.fails(t, exitError, []string{`no node "x"; its nodes: dev-1, dev-2`}, "cluster", "node", "kill", "dev-1", "x")
	harness.fails(t, exitError, []string{`no cluster "y"`}, "cluster", "node", "kill", "dev-1", "--cluster", "y")
	if len(fake.did) > 0 {
		t.Errorf("did %v", fake.did)
	}
}

func TestAddNodes(t *testing.T) {
	harness, fake, _ := newGrownHarness(t, nil)
	if code := harness.run(t, "cluster", "node", "add", "--control-plane", "--count", "2", "--memory", "1024"); code != exitOK {
		t.Fatalf("exit code %d: %s", code, harness.err)
	}
	if got := fake.options.Nodes[4]; got.Name != "dev-5" || !got.ControlPlane || got.MemoryMiB != 1024 {
		t.Errorf("added %+v", got)
	}
	config, err := machineconfig.Decode("dev-6", bytes.NewReader(fake.configs["dev-6"]))
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(config.Machine.Type, config.Machine.Hostname, config.Cluster.ControlPlane.Addresses); got != "controlplanedev-6[10.77.0.11 10.77.0.12 10.77.0.13 10.77.0.15 10.77.0.16]" {
		t.Errorf("config %s", got)
	}
	if config.Secrets.OSCA.Key != testSecrets().OSCA.Key || len(config.Machine.Kubelet.NodeLabels) != 0 {
		t.Errorf("not the config of a control-plane node: %+v", config.Machine)
	}
	if access := harness.context(t); !slices.Equal(access.Nodes, []string{"dev-1", "dev-2", "dev-3", "dev-5", "dev-6"}) || len(access.Endpoints) != 5 {
		t.Errorf("context %v %v", access.Nodes, access.Endpoints)
	}
	// Only the new ones are waited for.
	if text := harness.err.String(); !strings.Contains(text, "dev-6 ready") || strings.Contains(text, "dev-1 ready") {
		t.Errorf("said %s", text)
	}

	if code := harness.run(t, "cluster", "node", "add", "dev", "--no-wait"); code != exitOK {
		t.Fatalf("exit code %d: %s", code, harness.err)
	}
	if config, err = machineconfig.Decode("dev-7", bytes.NewReader(fake.configs["dev-7"])); err != nil {
		t.Fatal(err)
	}
	if config.Machine.Type != machineconfig.Worker || config.Machine.Kubelet.NodeLabels["disk"] != "fast" || config.Secrets.OSCA.Key != "" {
		t.Errorf("not the config of a worker: %+v", config.Machine)
	}
	if access := harness.context(t); len(access.Nodes) != 5 {
		t.Errorf("a worker became an endpoint: %v", access.Nodes)
	}
}

func TestAddNodesRefuses(t *testing.T) {
	harness, fake, _ := newGrownHarness(t, nil)
	harness.fails(t, exitUsage, []string{"--count 0"}, "cluster", "node", "add", "--count", "0")
	harness.fails(t, exitUsage, []string{"would have 8 control-plane nodes"}, "cluster", "node", "add", "--control-plane", "--count", "5")
	harness.fails(t, exitUsage, []string{"name one"}, "cluster", "node", "add", "dev", "--cluster", "x")
	fake.bootstrapped.Store(false)
	harness.fails(t, exitError, []string{"osctl cluster start dev"}, "cluster", "node", "add")
	if len(fake.did) > 0 {
		t.Errorf("did %v", fake.did)
	}
}

func TestRemoveNode(t *testing.T) {
	harness, fake, workloads := newGrownHarness(t, nil)
	if code := harness.run(t, "cluster", "node", "remove", "dev-1"); code != exitOK {
		t.Fatalf("exit code %d: %s", code, harness.err)
	}
	if got := strings.Join(fake.did, ","); got != "leave,shutdown,remove dev-1" {
		t.Errorf("did %s", got)
	}
	if len(workloads.deleted) != 1 || workloads.deleted[0].GetSelections()[0].GetResource() != "nodes" || workloads.deleted[0].GetSelections()[0].GetNames()[0] != "dev-1" {
		t.Errorf("deleted %v", workloads.deleted)
	}
	if !strings.Contains(harness.err.String(), "2 control-plane nodes survive no failure") {
		t.Errorf("no warning: %s", harness.err)
	}
	access := harness.context(t)
	if !slices.Equal(access.Nodes, []string{"dev-2", "dev-3"}) || access.Endpoints[0] != "127.0.0.1:4102" || access.Kubernetes != "https://127.0.0.1:4103" {
		t.Errorf("context %v %v %s", access.Nodes, access.Endpoints, access.Kubernetes)
	}
}

func TestRemoveWorker(t *testing.T) {
	harness, fake, _ := newGrownHarness(t, nil)
	if code := harness.run(t, "cluster", "node", "rm", "dev-4"); code != exitOK {
		t.Fatalf("exit code %d: %s", code, harness.err)
	}
	if got := strings.Join(fake.did, ","); got != "shutdown,remove dev-4" || len(harness.context(t).Nodes) != 3 {
		t.Errorf("did %s", got)
	}
}

func TestRemoveDeadNode(t *testing.T) {
	silent := status.Error(codes.Unavailable, "the node does not answer")
	harness, fake, workloads := newGrownHarness(t, silent)
	harness.fails(t, exitError, []string{"leave etcd: the node does not answer", "remove --force dev-3"}, "cluster", "node", "remove", "dev-3")
	if len(fake.did) > 0 {
		t.Errorf("did %v", fake.did)
	}
	workloads.results[0].Error = "not found"
	if code := harness.run(t, "cluster", "node", "remove", "--force", "dev-3"); code != exitOK {
		t.Fatalf("exit code %d: %s", code, harness.err)
	}
	if got := strings.Join(fake.did, ","); got != "cut dev-3,etcd remove dev-3,remove dev-3" {
		t.Errorf("did %s", got)
	}
	if !strings.Contains(harness.err.String(), "warning: delete the node from Kubernetes: not found") {
		t.Errorf("said %s", harness.err)
	}
}

func TestTheLastControlPlaneNodeIsNotRemoved(t *testing.T) {
	harness, fake, _ := newGrownHarness(t, nil)
	fake.options.Nodes = []provision.Node{{Name: "dev-1", ControlPlane: true}, {Name: "dev-2"}}
	harness.fails(t, exitError, []string{"the only control-plane node", "cluster destroy dev"}, "cluster", "node", "remove", "--force", "dev-1")
	if len(fake.did) > 0 {
		t.Errorf("did %v", fake.did)
	}
}

func TestControlPlaneAddresses(t *testing.T) {
	layout, err := newFakeMachines("dev", 3, 1).Layout()
	if err != nil {
		t.Fatal(err)
	}
	// .19 was removed; the name and the foreign address are somebody's choice.
	got := controlPlaneAddresses([]machineconfig.Host{"cp.example.com", "10.77.0.12", "10.77.0.19", "192.0.2.1"}, layout)
	if want := []machineconfig.Host{"cp.example.com", "10.77.0.12", "192.0.2.1", "10.77.0.11", "10.77.0.13"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}
