package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/server/v3/etcdserver/api/membership"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"
)

const (
	// defragmentPause is how long members are left alone between two.
	defragmentPause = time.Minute
	// defragmentTime bounds one: rewriting 4 GiB on a slow disk.
	defragmentTime = 5 * time.Minute
)

// defragmentMembers defragments, on the leader's word, one member after the
// other when it pays. A leader acts only when it has led since it looked last:
// the one before it may have sent a member to work that is not done yet.
func (a *admin) defragmentMembers(ctx context.Context, m *member) error {
	interval := a.flags.defragmentInterval
	if interval == 0 {
		return nil
	}
	timer := time.NewTimer(interval)
	defer timer.Stop()
	var last look
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		}
		wait, now := interval, look{term: m.Server.Term(), leads: m.Server.Leader() == m.Server.MemberID()}
		if now.leads && now.term == last.term && last.leads {
			acted := false
			if acted, now.itsTurn = a.defragmentOne(ctx, m, last.itsTurn); acted {
				wait = min(interval, defragmentPause)
			}
		}
		last = now
		timer.Reset(wait)
	}
}

// look is what a member saw when it looked whether there is something to do.
type look struct {
	term  uint64
	leads bool
	// itsTurn tells that of all members only the leader is worth it.
	itsTurn bool
}

// defragmentOne defragments the member whose turn it is, if any. The leader's
// turn comes when it was so already the last time: the others may not have
// noticed yet how much of theirs is free.
func (a *admin) defragmentOne(ctx context.Context, m *member, again bool) (acted, itsTurn bool) {
	next, found, waits := defragmentNext(a.usages(ctx, m))
	if waits != "" {
		a.log.Info("defragmentation waits", zap.String("for", waits))
	}
	if !found || ctx.Err() != nil {
		return false, false
	}
	if next.leads && len(m.Server.Cluster().Members()) > 1 {
		if !again {
			return false, true
		}
		// The next leader does it, to a member that is missed by nobody.
		ctx, cancel := context.WithTimeout(ctx, changeTime)
		defer cancel()
		if err := a.handOver(ctx, m, a.rollCall(ctx, m)); err != nil {
			a.log.Warn("defragmentation waits", zap.Error(err))
		}
		return true, false
	}
	after, err := a.defragmentMember(ctx, m, next)
	if ctx.Err() != nil {
		return false, false
	}
	if err != nil {
		a.note("%s was not defragmented: %v", next.name, err)
	} else {
		a.note("%s was defragmented: its database shrank from %s to %s", next.name, mebibytes(next.size), mebibytes(after))
	}
	return true, false
}

// defragmentMember returns the database's size after it.
func (a *admin) defragmentMember(ctx context.Context, m *member, which usage) (int64, error) {
	if which.id == uint64(m.Server.MemberID()) {
		_, after, _, err := a.defragment(m)
		return after, err
	}
	ctx, cancel := context.WithTimeout(ctx, defragmentTime)
	defer cancel()
	client, done, err := a.maintenance(which.address)
	if err != nil {
		return 0, err
	}
	defer done()
	if _, err := client.Defragment(ctx, &etcdserverpb.DefragmentRequest{}); err != nil {
		return 0, said(err)
	}
	answer, err := client.Status(ctx, &etcdserverpb.StatusRequest{})
	if err != nil {
		return 0, said(err)
	}
	return answer.GetDbSize(), nil
}

// usages asks every member how it is.
func (a *admin) usages(ctx context.Context, m *member) []usage {
	var list []usage
	for _, each := range m.Server.Cluster().Members() {
		one := usage{id: uint64(each.ID), name: nameOf(each), learner: each.IsLearner, leads: each.ID == m.Server.Leader()}
		if each.ID == m.Server.MemberID() {
			one.size, one.inUse = m.Server.Backend().Size(), m.Server.Backend().SizeInUse()
			one.applied = m.Server.AppliedIndex()
		} else if err := a.ask(ctx, each, &one); err != nil {
			one.trouble = err.Error()
		}
		list = append(list, one)
	}
	for _, alarm := range m.Server.Alarms() {
		// A full database is what defragmentation is for; two that differ are not.
		for i := range list {
			if list[i].id == alarm.MemberID && alarm.Alarm != etcdserverpb.AlarmType_NOSPACE {
				list[i].trouble = "alarm " + alarm.Alarm.String()
			}
		}
	}
	return list
}

// ask asks another member how it is.
func (a *admin) ask(ctx context.Context, other *membership.Member, into *usage) error {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	if len(other.ClientURLs) == 0 {
		return errors.New("it has not started yet")
	}
	into.address = other.ClientURLs[0]
	client, done, err := a.maintenance(into.address)
	if err != nil {
		return err
	}
	defer done()
	answer, err := client.Status(ctx, &etcdserverpb.StatusRequest{})
	if err != nil {
		return said(err)
	}
	if answer.GetLeader() == 0 {
		return errors.New("it knows no leader")
	}
	into.size, into.inUse, into.applied = answer.GetDbSize(), answer.GetDbSizeInUse(), answer.GetRaftAppliedIndex()
	return nil
}

// said is what a member answered, without gRPC's words around it.
func said(err error) error { return errors.New(status.Convert(err).Message()) }

// maintenance returns a client of the member that listens at an address.
func (a *admin) maintenance(address string) (client etcdserverpb.MaintenanceClient, done func(), err error) {
	parsed, err := url.Parse(address)
	if err != nil {
		return nil, nil, fmt.Errorf("read a member's address: %w", err)
	}
	conn, err := grpc.NewClient("passthrough:///"+parsed.Host,
		grpc.WithTransportCredentials(credentials.NewTLS(a.credentials)), grpc.WithAuthority(a.flags.serverName))
	if err != nil {
		return nil, nil, fmt.Errorf("connect to %s: %w", parsed.Host, err)
	}
	return etcdserverpb.NewMaintenanceClient(conn), func() { _ = conn.Close() }, nil
}
