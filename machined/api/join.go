package api

import (
	"context"
	"net/netip"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/keelson-os/keelson/pkg/api/join"
	"github.com/keelson-os/keelson/pkg/identity"
)

// Joiner decides who joins the cluster, and signs.
type Joiner interface {
	// Join's errors are gRPC statuses. remote is where the node asks from; the
	// zero Addr stands for an administrator or a process on the node.
	Join(ctx context.Context, remote netip.Addr, request *join.JoinRequest) (*join.JoinResponse, error)
}

// JoinElsewhere is a worker's Joiner: it holds no keys to sign with.
type JoinElsewhere struct{}

// Join implements Joiner.
func (JoinElsewhere) Join(context.Context, netip.Addr, *join.JoinRequest) (*join.JoinResponse, error) {
	return nil, status.Error(codes.FailedPrecondition, "this node is a worker, which holds no keys to sign with: ask a control-plane node")
}

// joinService answers whoever reaches the join port: until the token was seen,
// it tells nothing of the node, and what is called is not recorded. The Joiner
// records what it does, at a bounded rate.
type joinService struct {
	join.UnimplementedJoinServiceServer
	late *late
}

func (s *joinService) Join(ctx context.Context, request *join.JoinRequest) (*join.JoinResponse, error) {
	joiner := s.late.getJoiner()
	if joiner == nil {
		return nil, status.Error(codes.Unavailable, "this node does not let others join yet: it is starting; try again in some seconds")
	}
	return joiner.Join(ctx, remoteOf(ctx), request)
}

// remoteOf reads where a caller without a certificate is, which is apid's word.
func remoteOf(ctx context.Context) netip.Addr {
	md, _ := metadata.FromIncomingContext(ctx)
	if remotes := md.Get(identity.MetadataRemote); len(remotes) == 1 {
		address, _ := netip.ParseAddr(remotes[0]) // what cannot be read stays zero
		return address
	}
	return netip.Addr{}
}
