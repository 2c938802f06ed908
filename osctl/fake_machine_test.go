package main

import (
	"context"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/keelson-os/keelson/pkg/api/machine"
)

// fakeMachine is a node that reboots when asked.
type fakeMachine struct {
	machine.UnimplementedMachineServiceServer
	status   *machine.StatusResponse
	uptimes  []time.Duration // one for each Stats; the last stays
	statsErr error
	resetErr error
	events   []*machine.Event
	follow   func(send func(*machine.Event) error) error // instead of events
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

func (node *fakeMachine) Reboot(_ context.Context, request *machine.RebootRequest) (*machine.RebootResponse, error) {
	node.done("reboot", request.GetForce())
	return &machine.RebootResponse{}, nil
}

func (node *fakeMachine) Shutdown(_ context.Context, request *machine.ShutdownRequest) (*machine.ShutdownResponse, error) {
	node.done("shutdown", request.GetForce())
	return &machine.ShutdownResponse{}, nil
}

func (node *fakeMachine) Reset(_ context.Context, request *machine.ResetRequest) (*machine.ResetResponse, error) {
	if node.resetErr != nil {
		return nil, node.resetErr
	}
	what := append([]string{"reset"}, request.GetSystemLabels()...)
	if request.GetOverwrite() {
		what = append(what, "and overwrite")
	}
	node.done(strings.Join(what, " "), request.GetForce())
	return &machine.ResetResponse{}, nil
}

func (node *fakeMachine) done(what string, force bool) {
	node.did = append(node.did, map[bool]string{true: "forced "}[force]+what)
}

func (node *fakeMachine) Events(_ *machine.EventsRequest, stream machine.MachineService_EventsServer) error {
	if node.follow != nil {
		return node.follow(stream.Send)
	}
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
