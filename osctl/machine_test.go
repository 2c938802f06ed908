package main

import (
	"context"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/keelson-os/keelson/pkg/api/log"
	"github.com/keelson-os/keelson/pkg/api/machine"
)

// fakeMachine is a node that reboots when asked.
type fakeMachine struct {
	machine.UnimplementedMachineServiceServer
	status   *machine.StatusResponse
	uptimes  []time.Duration // one for each Stats; the last stays
	statsErr error
	events   []*machine.Event
	did      []string
}

func (node *fakeMachine) Version(context.Context, *machine.VersionRequest) (*machine.VersionResponse, error) {
	return &machine.VersionResponse{
		Version: "v1.37.1", Kernel: "6.12.1", Go: "go1.26", Architecture: "amd64", Hostname: "dev-1", RootHash: "abcd",
	}, nil
}

func (node *fakeMachine) Status(context.Context, *machine.StatusRequest) (*machine.StatusResponse, error) {
	return node.status, nil
}

func (node *fakeMachine) Stats(context.Context, *machine.StatsRequest) (*machine.StatsResponse, error) {
	if node.statsErr != nil {
		return nil, node.statsErr
	}
	uptime := node.uptimes[0]
	if len(node.uptimes) > 1 {
		node.uptimes = node.uptimes[1:]
	}
	return &machine.StatsResponse{
		Uptime: durationpb.New(uptime), MemoryTotal: 2 << 30, MemoryAvailable: 1536 << 20, VarTotal: 8 << 30, VarAvailable: 6 << 30,
	}, nil
}

func (node *fakeMachine) Reboot(context.Context, *machine.RebootRequest) (*machine.RebootResponse, error) {
	node.did = append(node.did, "reboot")
	return &machine.RebootResponse{}, nil
}

func (node *fakeMachine) Shutdown(context.Context, *machine.ShutdownRequest) (*machine.ShutdownResponse, error) {
	node.did = append(node.did, "shutdown")
	return &machine.ShutdownResponse{}, nil
}

func (node *fakeMachine) Events(_ *machine.EventsRequest, stream machine.MachineService_EventsServer) error {
	for _, event := range node.events {
		if err := stream.Send(event); err != nil {
			return err
		}
	}
	return nil
}

func newMachineHarness(t *testing.T) (*harness, *fakeMachine) {
	node := &fakeMachine{
		status:  &machine.StatusResponse{Stage: machine.StatusResponse_STAGE_RUNNING},
		uptimes: []time.Duration{time.Hour * 5},
	}
	return newHarness(t, func(server *grpc.Server) { machine.RegisterMachineServiceServer(server, node) }), node
}

func TestVersion(t *testing.T) {
	harness, _ := newMachineHarness(t)
	harness.golden(t, "version.txt", "version")
	harness.golden(t, "version.json", "version", "-o", "json")
	if code := harness.run(t, "version", "--client"); code != exitOK || harness.out.String() != "osctl v1.37.1\n" {
		t.Errorf("exit code %d, %s", code, harness.out)
	}
}

func TestStatus(t *testing.T) {
	harness, node := newMachineHarness(t)
	harness.golden(t, "status.txt", "status")
	node.status = &machine.StatusResponse{
		Stage: machine.StatusResponse_STAGE_MAINTENANCE, Phase: "config",
		Problems: []string{"fw_cfg:4:1: machine: unknown field \"hostnam\"\nfw_cfg:5:1: another", "second"},
	}
	node.statsErr = status.Error(codes.FailedPrecondition, "broken")
	harness.golden(t, "status-maintenance.txt", "status")
	node.status.Stage = machine.StatusResponse_STAGE_BOOTING
	harness.fails(t, exitError, []string{"broken"}, "status")
}

func TestEvents(t *testing.T) {
	harness, node := newMachineHarness(t)
	node.events = []*machine.Event{
		{Sequence: 1, SinceBoot: durationpb.New(1234 * time.Millisecond), Kind: "phase", Subject: "storage", Action: "started"},
		{Sequence: 2, SinceBoot: durationpb.New(62 * time.Second), Kind: "service", Subject: "kube-controller-manager", Action: "exited", Message: "exit status 1"},
	}
	harness.golden(t, "events.txt", "events")
	harness.golden(t, "events.json", "events", "-o", "json")
}

func TestRebootWaitsForAnotherBoot(t *testing.T) {
	harness, node := newMachineHarness(t)
	// The clock runs a minute with every look at it: the second answer is of a
	// kernel that started after the reboot was asked for.
	clock := testNow
	harness.now = func() time.Time { clock = clock.Add(time.Minute); return clock }
	node.uptimes = []time.Duration{5 * time.Hour, 10 * time.Second}
	if code := harness.run(t, "reboot", "--wait"); code != exitOK || !strings.Contains(harness.out.String(), "started again") {
		t.Errorf("exit code %d, %s%s", code, harness.out, harness.err)
	}
	if len(node.uptimes) != 1 {
		t.Error("did not wait for the second boot")
	}
	harness.now = func() time.Time { return testNow }
	node.uptimes = []time.Duration{5 * time.Hour}
	harness.fails(t, exitError, []string{"not started again within 10ms"}, "reboot", "--wait", "--timeout", "10ms")
}

func TestShutdown(t *testing.T) {
	harness, node := newMachineHarness(t)
	if code := harness.run(t, "shutdown"); code != exitOK || len(node.did) != 1 || node.did[0] != "shutdown" {
		t.Errorf("exit code %d, the node did %q", code, node.did)
	}
}

// fakeLog is a kernel that said three things.
type fakeLog struct {
	log.UnimplementedLogServiceServer
}

func (fakeLog) Kernel(_ *log.KernelRequest, stream log.LogService_KernelServer) error {
	for i, message := range []string{"Linux version 6.12", "warned", "failed"} {
		line := &log.KernelResponse{SinceBoot: durationpb.New(time.Duration(i) * 1500 * time.Microsecond), Priority: uint32(6 - i), Message: message}
		if err := stream.Send(line); err != nil {
			return err
		}
	}
	return nil
}

func TestDmesg(t *testing.T) {
	harness := newHarness(t, func(server *grpc.Server) { log.RegisterLogServiceServer(server, fakeLog{}) })
	harness.golden(t, "dmesg.txt", "dmesg")
}
