package api

import (
	"context"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/keelson-os/keelson/pkg/api/machine"
)

// Node is the machine as a whole, as main sees it.
type Node interface {
	Version() *machine.VersionResponse
	Status() *machine.StatusResponse
	Stats() (*machine.StatsResponse, error)
	// RequestStop asks for the way down and returns at once. An error says why
	// it cannot be.
	RequestStop(reboot bool, by string) error
}

type machineService struct {
	machine.UnimplementedMachineServiceServer
	node   Node
	events *Events
}

func (s *machineService) Version(context.Context, *machine.VersionRequest) (*machine.VersionResponse, error) {
	return s.node.Version(), nil
}

func (s *machineService) Status(context.Context, *machine.StatusRequest) (*machine.StatusResponse, error) {
	now := s.node.Status()
	for i := range now.Problems {
		now.Problems[i] = text(now.Problems[i])
	}
	return now, nil
}

func (s *machineService) Stats(context.Context, *machine.StatsRequest) (*machine.StatsResponse, error) {
	stats, err := s.node.Stats()
	if err != nil {
		return nil, status.Errorf(codes.Internal, "read the node's use: %v", err)
	}
	return stats, nil
}

func (s *machineService) Reboot(ctx context.Context, _ *machine.RebootRequest) (*machine.RebootResponse, error) {
	return &machine.RebootResponse{}, s.stop(ctx, true)
}

func (s *machineService) Shutdown(ctx context.Context, _ *machine.ShutdownRequest) (*machine.ShutdownResponse, error) {
	return &machine.ShutdownResponse{}, s.stop(ctx, false)
}

func (s *machineService) stop(ctx context.Context, reboot bool) error {
	if err := s.node.RequestStop(reboot, callerOf(ctx).String()); err != nil {
		return status.Error(codes.FailedPrecondition, err.Error())
	}
	return nil
}

func (s *machineService) Events(request *machine.EventsRequest, stream grpc.ServerStreamingServer[machine.Event]) error {
	return s.events.Read(stream.Context(), int(request.GetTail()), request.GetFollow(), stream.Send)
}
