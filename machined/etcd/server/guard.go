package main

import (
	"context"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// guard holds what other processes ask of the membership to the rules of the
// admin API, which stand in for etcd's own: those leave no way to force a
// removal, and refuse additions for seconds after every change. Defragmentation,
// too, which other members ask for.
func (a *admin) guard(ctx context.Context, request any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	switch asked := request.(type) {
	case *etcdserverpb.MemberAddRequest:
		if !asked.IsLearner {
			return nil, status.Error(codes.FailedPrecondition, "members are added as learners and promoted when they are caught up")
		}
		response, err := handler(ctx, request)
		select {
		case a.added <- struct{}{}:
		default:
		}
		return response, err
	case *etcdserverpb.DefragmentRequest:
		if !a.rewriting.TryLock() {
			return nil, errRewriting
		}
		defer a.rewriting.Unlock()
	case *etcdserverpb.MemberRemoveRequest:
		m, err := a.member()
		if err != nil {
			return nil, err
		}
		if problem := refuseRemoval(a.rollCall(ctx, m), asked.ID, false); problem != "" {
			return nil, status.Error(codes.FailedPrecondition, problem)
		}
	}
	return handler(ctx, request)
}
