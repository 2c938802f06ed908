package api

import (
	"context"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/keelson-os/keelson/pkg/api/machine"
	"github.com/keelson-os/keelson/pkg/osdisk"
)

// Node is the machine as a whole, as main sees it.
type Node interface {
	Version() *machine.VersionResponse
	Status() *machine.StatusResponse
	Stats() (*machine.StatsResponse, error)
	// RequestStop asks for the way down and returns as soon as it is certain. An
	// error says why it cannot be; nothing was changed then.
	RequestStop(ctx context.Context, stop Stop) error
}

// Stop is how the node is to go down.
type Stop struct {
	Kind StopKind
	// Force says not to drain, not to wait for pods' grace periods, and to leave
	// etcd whatever becomes of it.
	Force bool
	// DrainWithin bounds the drain, if it is not zero, beyond what the config
	// does: someone stands at the machine.
	DrainWithin time.Duration
	// Kexec says to start the next kernel without the firmware.
	Kexec bool
	// Keep are the partitions that a reset leaves alone, by name.
	Keep []string
	// Overwrite says that a reset writes zeros over all that it wipes.
	Overwrite bool
	By        string
}

// StopKind says what follows the way down.
type StopKind string

// The kinds of a Stop.
const (
	StopReboot   StopKind = "reboot"
	StopShutdown StopKind = "shutdown"
	// StopReset leaves the cluster, wipes the disk and reboots.
	StopReset StopKind = "reset"
)

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

func (s *machineService) Reboot(ctx context.Context, request *machine.RebootRequest) (*machine.RebootResponse, error) {
	return &machine.RebootResponse{}, s.stop(ctx, Stop{Kind: StopReboot, Force: request.GetForce(), Kexec: request.GetKexec()})
}

func (s *machineService) Shutdown(ctx context.Context, request *machine.ShutdownRequest) (*machine.ShutdownResponse, error) {
	return &machine.ShutdownResponse{}, s.stop(ctx, Stop{Kind: StopShutdown, Force: request.GetForce()})
}

func (s *machineService) Reset(ctx context.Context, request *machine.ResetRequest) (*machine.ResetResponse, error) {
	keep, err := kept(request.GetSystemLabels())
	if err != nil {
		return nil, err
	}
	return &machine.ResetResponse{}, s.stop(ctx, Stop{Kind: StopReset, Force: request.GetForce(), Keep: keep, Overwrite: request.GetOverwrite()})
}

// kept are the partitions that a reset leaves alone which is to wipe these.
func kept(wiped []string) (keep []string, err error) {
	wipeable := []string{osdisk.State.Name, osdisk.Ephemeral.Name}
	for _, name := range wiped {
		if !slices.Contains(wipeable, name) {
			return nil, status.Errorf(codes.InvalidArgument, "a reset wipes %s, not %q", strings.Join(wipeable, " and "), name)
		}
	}
	for _, name := range wipeable {
		if len(wiped) > 0 && !slices.Contains(wiped, name) {
			keep = append(keep, name)
		}
	}
	return keep, nil
}

func (s *machineService) stop(ctx context.Context, stop Stop) error {
	stop.By = callerOf(ctx).String()
	if err := s.node.RequestStop(ctx, stop); err != nil {
		return precondition(err)
	}
	return nil
}

func (s *machineService) Events(request *machine.EventsRequest, stream grpc.ServerStreamingServer[machine.Event]) error {
	return s.events.Read(stream.Context(), int(request.GetTail()), request.GetFollow(), stream.Send)
}
