package main

import (
	"context"
	"flag"
	"strings"
	"time"

	"go.uber.org/zap"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	etcdapi "github.com/keelson-os/keelson/pkg/api/etcd"
)

// snapshotFlags say where snapshots are kept, and which.
type snapshotFlags struct {
	dir, store       string
	interval, maxAge time.Duration
	keep             int
}

func (f *snapshotFlags) add(set *flag.FlagSet) {
	set.StringVar(&f.dir, "snapshot-dir", "", "`folder` of the snapshots that are kept; it must exist. None are without")
	set.DurationVar(&f.interval, "snapshot-interval", 0, "between two snapshots; 0 for none")
	set.IntVar(&f.keep, "snapshot-keep", 8, "how many are kept")
	set.DurationVar(&f.maxAge, "snapshot-max-age", 0, "when one is removed all the same; 0 is never")
	set.StringVar(&f.store, "snapshot-store", "", "`file` that says to which store the leader sends its own; none if empty")
}

// snapshots are those that are made without anybody asking for them.
type snapshots struct {
	keeper *keeper
	sender *sender // nil without a store
}

func newSnapshots(f *snapshotFlags, log *zap.Logger) snapshots {
	s := snapshots{keeper: &keeper{
		dir: f.dir, interval: f.interval, maxAge: f.maxAge, number: f.keep, settle: min(settle, f.interval),
		free: freeSpace, now: time.Now, log: log, made: make(chan struct{}, 1),
	}}
	if f.store != "" && f.interval > 0 {
		s.sender = &sender{keeper: s.keeper, open: func() (store, error) { return openStore(f.store) }, log: log, glance: min(glance, f.interval)}
	}
	return s
}

// makeSnapshots makes this member's snapshots.
func (a *admin) makeSnapshots(ctx context.Context, m *member) error {
	a.snapshots.keeper.run(ctx, func() (pinned, int64, error) { return a.pin(m) })
	return nil
}

// sendSnapshots sends them while this member leads.
func (a *admin) sendSnapshots(ctx context.Context, m *member) error {
	if a.snapshots.sender != nil {
		a.snapshots.sender.run(ctx, func() bool { return m.Server.Leader() == m.Server.MemberID() })
	}
	return nil
}

// pin holds the member's data as it is now, if it is worth keeping.
func (a *admin) pin(m *member) (pinned, int64, error) {
	if m.Server.Leader() == 0 {
		return nil, 0, errNotNow // nothing new can be in it
	}
	if m.isLearner() {
		return nil, 0, errNotNow // its data may be old
	}
	a.rewriting.RLock()
	// Read before the data is held, which then has at least that.
	revision := m.Server.KV().Rev()
	return held{m.Server.Backend().Snapshot(), a.rewriting.RUnlock}, revision, nil
}

// held is data that lets go of more than itself.
type held struct {
	pinned
	release func()
}

func (h held) Close() error {
	defer h.release()
	return h.pinned.Close()
}

// problems tells what is wrong with the snapshots.
func (s *snapshots) problems() []string {
	var list []string
	if problem := s.keeper.trouble(); problem != "" {
		list = append(list, "the last snapshot was not made: "+problem)
	}
	if s.sender == nil {
		return list
	}
	if problem := s.sender.trouble(); problem != "" {
		list = append(list, "the last snapshot was not sent: "+problem)
	}
	return list
}

// Snapshots implements EtcdService.
func (a *admin) Snapshots(ctx context.Context, _ *etcdapi.SnapshotsRequest) (*etcdapi.SnapshotsResponse, error) {
	list, err := a.snapshots.keeper.list(ctx)
	if ctx.Err() != nil {
		return nil, status.FromContextError(ctx.Err()).Err()
	}
	if err != nil {
		return nil, status.Error(codes.Internal, err.Error())
	}
	response := &etcdapi.SnapshotsResponse{Problem: strings.Join(a.snapshots.problems(), "; ")}
	for _, one := range newestFirst(list, a.snapshots.keeper.now()) {
		response.Snapshots = append(response.Snapshots, &etcdapi.KeptSnapshot{
			Name: one.name, Time: timestamppb.New(one.time), Size: one.size, Revision: one.revision,
			Intact: !one.damaged, Stored: one.stored,
		})
	}
	return response, nil
}
