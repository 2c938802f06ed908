package api

import (
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/keelson-os/keelson/pkg/api/cluster"
)

// maxSnapshotChunk is the API's limit of one message of a snapshot, in bytes.
const maxSnapshotChunk = 1 << 20

func (s *clusterService) Recover(stream grpc.ClientStreamingServer[cluster.RecoverRequest, cluster.RecoverResponse]) error {
	target, err := s.late.getCluster()
	if err != nil {
		return err
	}
	revision, keys, err := target.Recover(stream.Context(), &snapshotStream{stream: stream})
	if err != nil {
		return precondition(err)
	}
	return stream.SendAndClose(&cluster.RecoverResponse{Revision: revision, Keys: keys})
}

// snapshotStream reads what a client sends.
type snapshotStream struct {
	stream grpc.ClientStreamingServer[cluster.RecoverRequest, cluster.RecoverResponse]
	rest   []byte
}

func (s *snapshotStream) Read(buffer []byte) (int, error) {
	for len(s.rest) == 0 {
		request, err := s.stream.Recv()
		if err != nil {
			return 0, err // io.EOF when the client has sent all
		}
		if s.rest = request.GetChunk(); len(s.rest) > maxSnapshotChunk {
			return 0, status.Errorf(codes.InvalidArgument, "a chunk of %d bytes: at most %d are allowed", len(s.rest), maxSnapshotChunk)
		}
	}
	count := copy(buffer, s.rest)
	s.rest = s.rest[count:]
	return count, nil
}
