package main

import (
	"context"
	"strings"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/etcd/server/v3/etcdserver/api/membership"
	"go.etcd.io/raft/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	etcdapi "github.com/keelson-os/keelson/pkg/api/etcd"
)

const (
	// changeTime bounds what needs a quorum.
	changeTime = 6 * time.Second
	// changeEnd is when a call gives its change up, counted from its begin. With
	// answerTime, to find out why, it ends within ten seconds.
	changeEnd = 7 * time.Second
)

// Remove implements EtcdService.
func (a *admin) Remove(ctx context.Context, request *etcdapi.RemoveRequest) (*etcdapi.RemoveResponse, error) {
	m, err := a.member()
	if err != nil {
		return nil, err
	}
	target, err := find(m.Server.Cluster().Members(), request.GetMember())
	if err != nil {
		return nil, err
	}
	if err := a.remove(ctx, m, target, request.GetForce()); err != nil {
		return nil, err
	}
	return &etcdapi.RemoveResponse{}, nil
}

// Leave implements EtcdService.
func (a *admin) Leave(ctx context.Context, request *etcdapi.LeaveRequest) (*etcdapi.LeaveResponse, error) {
	m, err := a.member()
	if err != nil {
		return nil, err
	}
	self := m.Server.Cluster().Member(m.Server.MemberID())
	if self == nil {
		return &etcdapi.LeaveResponse{}, nil
	}
	if err := a.remove(ctx, m, self, request.GetForce()); err != nil {
		return nil, err
	}
	return &etcdapi.LeaveResponse{}, nil
}

// find returns the member of that name or ID.
func find(members []*membership.Member, which string) (*membership.Member, error) {
	var found []*membership.Member
	var all []string
	for _, each := range members {
		id := each.ID.String()
		all = append(all, strings.TrimSpace(each.Name+" "+id))
		if id == strings.ToLower(which) {
			return each, nil
		}
		if each.Name == which && which != "" {
			found = append(found, each)
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return nil, status.Errorf(codes.NotFound, "no member %q; there are: %s", which, strings.Join(all, ", "))
	}
	return nil, status.Errorf(codes.FailedPrecondition, "several members are named %q, say which by its ID: %s", which, strings.Join(all, ", "))
}

// remove takes a member out if the others can do without it.
func (a *admin) remove(ctx context.Context, m *member, target *membership.Member, force bool) error {
	end := time.Now().Add(changeEnd)
	roll := a.rollCall(ctx, m)
	if lost := noQuorum(roll); lost != "" {
		return status.Error(codes.Unavailable, lost)
	}
	if problem := refuseRemoval(roll, uint64(target.ID), force); problem != "" {
		return status.Error(codes.FailedPrecondition, problem)
	}
	ctx, cancel := context.WithDeadline(ctx, end)
	defer cancel()
	if target.ID == m.Server.Leader() && target.ID == m.Server.MemberID() {
		// A leader that leaves is missed for an election; one that handed over is not.
		if err := a.handOver(ctx, m, roll); err != nil {
			a.log.Warn("leaves the cluster as its leader", zap.Error(err))
		}
	}
	// A member that removes itself may stop before it hears that it did.
	if _, err := m.client.MemberRemove(ctx, uint64(target.ID)); err != nil && !m.Server.IsIDRemoved(uint64(target.ID)) {
		return a.explain(m, "remove "+nameOf(target), err)
	}
	a.note("%s was removed, as was asked for", nameOf(target))
	return nil
}

// ForfeitLeadership implements EtcdService.
func (a *admin) ForfeitLeadership(ctx context.Context, _ *etcdapi.ForfeitLeadershipRequest) (*etcdapi.ForfeitLeadershipResponse, error) {
	m, err := a.member()
	if err != nil {
		return nil, err
	}
	if m.Server.Leader() != m.Server.MemberID() {
		return &etcdapi.ForfeitLeadershipResponse{}, nil
	}
	roll := a.rollCall(ctx, m)
	ctx, cancel := context.WithTimeout(ctx, changeTime)
	defer cancel()
	if err := a.handOver(ctx, m, roll); err != nil {
		return nil, err
	}
	return &etcdapi.ForfeitLeadershipResponse{Leader: m.nameOf(m.Server.Leader())}, nil
}

// handOver gives the leadership to the first other voting member that answers
// and takes it: raft hands over only to one that is caught up.
func (a *admin) handOver(ctx context.Context, m *member, roll []presence) error {
	err := status.Error(codes.FailedPrecondition, "no other voting member answers that could lead")
	var candidates []presence
	for _, each := range roll {
		if !each.self && !each.learner && each.answers {
			candidates = append(candidates, each)
		}
	}
	for i, each := range candidates {
		// One that does not take it must leave time for the others.
		deadline, _ := ctx.Deadline()
		attempt, cancel := context.WithTimeout(ctx, time.Until(deadline)/time.Duration(len(candidates)-i+1))
		_, err = m.client.MoveLeader(attempt, each.id)
		cancel()
		if err == nil {
			a.log.Info("handed the leadership over", zap.String("to", each.name))
			return nil
		}
		err = status.Errorf(codes.Unavailable, "hand the leadership to %s: %v", each.name, status.Convert(err).Message())
	}
	return err
}

// explain says why a change failed: most often because there is no quorum.
func (a *admin) explain(m *member, what string, err error) error {
	told := status.Convert(err)
	switch told.Code() {
	case codes.DeadlineExceeded, codes.Unavailable, codes.Canceled, codes.Unknown:
		// The call's own time may be over.
		ctx, cancel := context.WithTimeout(context.Background(), answerTime)
		defer cancel()
		roll := a.rollCall(ctx, m)
		if problem := noQuorum(roll); problem != "" {
			return status.Error(codes.Unavailable, problem)
		}
		if m.Server.Leader() == types.ID(raft.None) {
			return status.Error(codes.Unavailable, leaderless(roll)+": try again")
		}
		return status.Errorf(codes.Unavailable, "%s: %s", what, told.Message())
	}
	return status.Errorf(told.Code(), "%s: %s", what, told.Message())
}
