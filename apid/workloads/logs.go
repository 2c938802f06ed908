package workloads

import (
	"context"
	"errors"
	"io"
	"strconv"

	"google.golang.org/grpc"
	"k8s.io/client-go/rest"

	workloadpb "github.com/keelson-os/keelson/pkg/api/workload"
)

// chunkSize is how much of a log or of a program's output goes into one
// message, in bytes.
const chunkSize = 32 << 10

// Logs implements WorkloadService.
func (s *Server) Logs(request *workloadpb.LogsRequest, stream grpc.ServerStreamingServer[workloadpb.LogsResponse]) error {
	ctx := stream.Context()
	session, err := s.session(ctx)
	if err != nil {
		return err
	}
	read, err := session.logs(ctx, request)
	if err != nil {
		return err
	}
	body, err := read.Stream(ctx)
	if err != nil {
		return statusOf(err)
	}
	defer body.Close()
	return copyLog(ctx, body, stream)
}

// logs is the request for a container's log.
func (s *session) logs(ctx context.Context, request *workloadpb.LogsRequest) (*rest.Request, error) {
	found, err := s.findPod(ctx, request.GetNamespace(), request.GetPod())
	if err != nil {
		return nil, err
	}
	container, err := chooseContainer(found, request.GetContainer())
	if err != nil {
		return nil, err
	}
	read := pod(s.raw.Get(), request.GetNamespace(), request.GetPod(), "log").Param("container", container)
	for name, wanted := range map[string]bool{
		"follow":     request.GetFollow(),
		"previous":   request.GetPrevious(),
		"timestamps": request.GetTimestamps(),
	} {
		if wanted {
			read.Param(name, "true")
		}
	}
	if tail := request.GetTail(); tail > 0 {
		read.Param("tailLines", strconv.FormatInt(tail, 10))
	}
	if since := request.GetSinceSeconds(); since > 0 {
		read.Param("sinceSeconds", strconv.FormatInt(since, 10))
	}
	return read, nil
}

// copyLog sends what is there as soon as it is there; gRPC's flow control
// makes a slow client slow the reading down.
func copyLog(ctx context.Context, log io.Reader, stream grpc.ServerStreamingServer[workloadpb.LogsResponse]) error {
	buffer := make([]byte, chunkSize)
	for {
		n, err := log.Read(buffer)
		if n > 0 {
			if err := stream.Send(&workloadpb.LogsResponse{Data: buffer[:n]}); err != nil {
				return err
			}
		}
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case ctx.Err() != nil:
			return statusOf(ctx.Err())
		case err != nil:
			return statusOf(err)
		}
	}
}
