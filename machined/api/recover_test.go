package api

import (
	"bytes"
	"context"
	"errors"
	"io"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/keelson-os/keelson/pkg/api/cluster"
)

// Recover counts the bytes, and refuses as Bootstrap does.
func (c fakeCluster) Recover(_ context.Context, snapshot io.Reader) (revision, keys int64, err error) {
	size, err := io.Copy(io.Discard, snapshot)
	return size, 1, errors.Join(c.err, err)
}

// sendSnapshot sends chunks of these sizes.
func sendSnapshot(t *testing.T, s *serving, sizes ...int) (*cluster.RecoverResponse, error) {
	t.Helper()
	stream, err := cluster.NewClusterServiceClient(s).Recover(deadline(t))
	must(t, err)
	for _, size := range sizes {
		if err := stream.Send(&cluster.RecoverRequest{Chunk: bytes.Repeat([]byte("x"), size)}); err != nil {
			break // the answer says why
		}
	}
	return stream.CloseAndRecv()
}

func TestRecover(t *testing.T) {
	s := serve(t)
	if _, err := sendSnapshot(t, s, 1); status.Code(err) != codes.Unavailable {
		t.Errorf("before there is a cluster: %v", err)
	}
	s.server.SetCluster(fakeCluster{})
	answer, err := sendSnapshot(t, s, 1<<20, 0, 5)
	if err != nil || answer.GetRevision() != 1<<20+5 || answer.GetKeys() != 1 {
		t.Errorf("got %v, %v", answer, err)
	}
	if _, err = sendSnapshot(t, s, 1<<20+1); status.Code(err) != codes.InvalidArgument {
		t.Errorf("a chunk that is too large: %v", err)
	}
	s.server.SetCluster(fakeCluster{err: errors.New("bootstrapped before")})
	_, err = sendSnapshot(t, s, 5)
	refused(t, err, codes.FailedPrecondition, "bootstrapped before")
	s.server.SetCluster(fakeCluster{err: status.Error(codes.InvalidArgument, "truncated")})
	_, err = sendSnapshot(t, s, 5)
	refused(t, err, codes.InvalidArgument, "truncated")
}
