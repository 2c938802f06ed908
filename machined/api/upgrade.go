package api

import (
	"context"
	"errors"
	"io"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/keelson-os/keelson/pkg/api/upgrade"
)

// Upgrader is the node's two slots. Its errors are gRPC statuses, or say why
// something cannot be done now.
type Upgrader interface {
	// Upgrade writes the bundle that it reads; tell may be called with what to
	// answer the client.
	Upgrade(ctx context.Context, bundle io.Reader, options *upgrade.UpgradeOptions, tell func(*upgrade.UpgradeResponse) error) error
	Rollback(ctx context.Context, request *upgrade.RollbackRequest) (*upgrade.RollbackResponse, error)
	Slots(ctx context.Context) (*upgrade.SlotsResponse, error)
}

type upgradeService struct {
	upgrade.UnimplementedUpgradeServiceServer
	late *late
}

func (s *upgradeService) Upgrade(stream grpc.BidiStreamingServer[upgrade.UpgradeRequest, upgrade.UpgradeResponse]) error {
	target, err := s.late.getUpgrader()
	if err != nil {
		return err
	}
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	if first.GetOptions() == nil {
		return status.Error(codes.InvalidArgument, "the first message of an upgrade has its options")
	}
	bundle := &bundleStream{receive: stream.Recv, rest: first.GetChunk()}
	if err := target.Upgrade(stream.Context(), bundle, first.GetOptions(), stream.Send); err != nil {
		return precondition(err)
	}
	return nil
}

func (s *upgradeService) Rollback(ctx context.Context, request *upgrade.RollbackRequest) (*upgrade.RollbackResponse, error) {
	target, err := s.late.getUpgrader()
	if err != nil {
		return nil, err
	}
	answer, err := target.Rollback(ctx, request)
	if err != nil {
		return nil, precondition(err)
	}
	return answer, nil
}

func (s *upgradeService) Slots(ctx context.Context, _ *upgrade.SlotsRequest) (*upgrade.SlotsResponse, error) {
	target, err := s.late.getUpgrader()
	if err != nil {
		return nil, err
	}
	slots, err := target.Slots(ctx)
	if err != nil {
		return nil, status.Error(codes.Unavailable, err.Error())
	}
	return slots, nil
}

// bundleStream reads the chunks of a stream.
type bundleStream struct {
	receive func() (*upgrade.UpgradeRequest, error)
	rest    []byte
}

func (b *bundleStream) Read(into []byte) (int, error) {
	for len(b.rest) == 0 {
		message, err := b.receive()
		if errors.Is(err, io.EOF) {
			return 0, io.EOF
		}
		if err != nil {
			return 0, err
		}
		b.rest = message.GetChunk()
	}
	n := copy(into, b.rest)
	b.rest = b.rest[n:]
	return n, nil
}
