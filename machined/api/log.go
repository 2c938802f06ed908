package api

import (
	"context"
	"iter"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/keelson-os/keelson/machined/host"
	"github.com/keelson-os/keelson/pkg/api/log"
)

// KernelLog yields the kernel's messages, oldest first, as host.KernelLog does.
type KernelLog func(ctx context.Context, follow bool) iter.Seq2[host.KernelMessage, error]

type logService struct {
	log.UnimplementedLogServiceServer
	read KernelLog
}

func (s *logService) Kernel(request *log.KernelRequest, stream grpc.ServerStreamingServer[log.KernelResponse]) error {
	ctx := stream.Context()
	first, err := s.firstOfTail(ctx, int(request.GetTail()))
	if err != nil {
		return kernelError(ctx, err)
	}
	for message, err := range s.read(ctx, request.GetFollow()) {
		if err != nil {
			return kernelError(ctx, err)
		}
		if message.Sequence < first {
			continue
		}
		err := stream.Send(&log.KernelResponse{
			Sequence: message.Sequence, SinceBoot: durationpb.New(message.SinceBoot),
			Priority: uint32(message.Priority), Facility: uint32(message.Facility), Message: text(message.Text),
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// firstOfTail returns the sequence number of the newest message but tail-1. The
// kernel's buffer can only be read from its oldest message on.
func (s *logService) firstOfTail(ctx context.Context, tail int) (uint64, error) {
	if tail == 0 {
		return 0, nil
	}
	var sequences []uint64
	for message, err := range s.read(ctx, false) {
		if err != nil {
			return 0, err
		}
		sequences = append(sequences, message.Sequence)
	}
	if tail >= len(sequences) {
		return 0, nil
	}
	return sequences[len(sequences)-tail], nil
}

func kernelError(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return status.FromContextError(ctx.Err()).Err()
	}
	return status.Errorf(codes.Internal, "read the kernel's messages: %v", err)
}
