package main

import (
	"context"
	"fmt"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/etcd/server/v3/etcdserver/api/membership"
	"go.uber.org/zap"
	"google.golang.org/grpc/status"
)

const (
	// idleLook is how often the leader looks for learners of which it was not
	// told: those that another member added.
	idleLook = 15 * time.Second
	// busyLook is how often it looks after one that is there.
	busyLook = time.Second
)

// promoteLearners is the leader's work: it gives learners their vote, and
// removes those that do not earn it in time.
func (a *admin) promoteLearners(ctx context.Context, m *member) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		newLeader := m.Server.LeaderChangedNotify()
		if m.Server.Leader() == m.Server.MemberID() {
			timer.Reset(a.lookAfter(ctx, m))
		} else {
			a.learners.see(nil, time.Now())
			timer.Stop()
		}
		select {
		case <-ctx.Done():
			return nil
		case <-newLeader:
		case <-a.added:
		case <-timer.C:
		}
	}
}

// lookAfter does what can be done for the learners now and returns when to look
// again.
func (a *admin) lookAfter(ctx context.Context, m *member) time.Duration {
	var list []*membership.Member
	var ids []types.ID
	for _, each := range m.Server.Cluster().Members() {
		if each.IsLearner {
			list, ids = append(list, each), append(ids, each.ID)
		}
	}
	now := time.Now()
	known := a.learners.see(ids, now)
	for _, each := range list {
		why := a.promote(ctx, m, each)
		if why == "" {
			a.note("%s caught up and votes now", nameOf(each))
			continue
		}
		a.learners.tell(each.ID, why)
		if now.Sub(known[each.ID].since) >= a.flags.learnerTimeout {
			a.giveUp(ctx, m, each, why)
		}
	}
	if len(list) > 0 {
		return busyLook
	}
	return idleLook
}

// promote gives a learner its vote, or says why not yet.
func (a *admin) promote(ctx context.Context, m *member, one *membership.Member) (why string) {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	applied, err := a.applied(ctx, m, one)
	if err != nil {
		return err.Error()
	}
	if committed := m.Server.CommittedIndex(); !caughtUp(applied, committed) {
		return fmt.Sprintf("it is catching up: %d of %d entries", applied, committed)
	}
	if _, err := m.client.MemberPromote(ctx, uint64(one.ID)); err != nil {
		return "it is not promoted yet: " + status.Convert(err).Message()
	}
	return ""
}

// applied asks a learner itself how far it is. That it answers matters as much:
// one that votes and is not there would cost the cluster a failure it could
// survive otherwise.
func (a *admin) applied(ctx context.Context, m *member, one *membership.Member) (uint64, error) {
	if len(one.ClientURLs) == 0 {
		return 0, fmt.Errorf("it has not started yet")
	}
	if err := a.prober.ask(ctx, m.Server.Cluster().ID(), one.PeerURLs); err != nil {
		return 0, fmt.Errorf("it does not answer: %w", err)
	}
	client, err := a.dial(one.ClientURLs)
	if err != nil {
		return 0, err
	}
	defer client.Close()
	answer, err := client.Status(ctx, one.ClientURLs[0])
	if err != nil {
		return 0, fmt.Errorf("it does not answer: %s", status.Convert(err).Message())
	}
	return answer.RaftAppliedIndex, nil
}

// giveUp removes a learner that did not catch up, so that the next one has its
// turn, and leaves word for it.
func (a *admin) giveUp(ctx context.Context, m *member, one *membership.Member, why string) {
	ctx, cancel := context.WithTimeout(ctx, changeTime)
	defer cancel()
	reason := fmt.Sprintf("it did not catch up within %s: %s", a.flags.learnerTimeout, why)
	if err := leaveWord(ctx, m.client, one.PeerURLs, reason); err != nil {
		a.log.Warn("cannot leave word for a learner", zap.Error(err))
	}
	if _, err := m.client.MemberRemove(ctx, uint64(one.ID)); err != nil {
		a.log.Warn("cannot remove a learner", zap.String("name", nameOf(one)), zap.Error(err))
		return
	}
	a.note("%s was removed: %s", nameOf(one), reason)
}
