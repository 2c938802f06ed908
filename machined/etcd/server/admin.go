package main

import (
	"context"
	"crypto/tls"
	"sync"
	"sync/atomic"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3client"
	"go.uber.org/zap"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	etcdapi "github.com/keelson-os/keelson/pkg/api/etcd"
)

// admin answers EtcdService. It is up before the member is, so that a node that
// cannot join can be asked why.
type admin struct {
	etcdapi.UnimplementedEtcdServiceServer
	flags *flags
	log   *zap.Logger
	// credentials are shown to other members.
	credentials *tls.Config
	prober      *prober
	events      *events
	learners    learners
	added       chan struct{} // a learner was added through this member
	snapshots   snapshots

	// rewriting is held while the database is rewritten, and by many for reading
	// while they read all of it: rewriting it would wait for them, and hold up
	// everything else.
	rewriting sync.RWMutex

	running atomic.Pointer[member]
	phase   atomic.Pointer[string] // what there is instead of a member
}

// member is the etcd server in this process, and a client that calls it
// without a connection. Both work without a quorum as far as etcd does.
type member struct {
	*embed.Etcd
	client *clientv3.Client
}

func newAdmin(flags *flags, log *zap.Logger) (*admin, error) {
	credentials, err := flags.credentials()
	if err != nil {
		return nil, err
	}
	a := &admin{
		flags: flags, log: log, credentials: credentials, prober: newProber(credentials),
		events: &events{}, added: make(chan struct{}, 1), snapshots: newSnapshots(&flags.snapshots, log),
	}
	a.tell("etcd is starting")
	return a, nil
}

// tell says what the process does while it runs no member.
func (a *admin) tell(phase string) { a.phase.Store(&phase) }

// member returns the running member, or a status that says why there is none.
func (a *admin) member() (*member, error) {
	if running := a.running.Load(); running != nil {
		return running, nil
	}
	return nil, status.Error(codes.Unavailable, *a.phase.Load())
}

// serveMember hands the member over for as long as it runs.
func (a *admin) serveMember(server *embed.Etcd) (done func()) {
	running := &member{Etcd: server, client: v3client.New(server.Server)}
	a.running.Store(running)
	return func() {
		a.running.Store(nil)
		_ = running.client.Close()
	}
}

// task is something that the process does by itself while its member works.
type task struct {
	name string
	// run works until ctx ends or nothing is left to do. After an error it is
	// run again, a minute later.
	run func(ctx context.Context, m *member) error
}

// tasks start once the member takes part in a quorum, and end with it.
func (a *admin) tasks() []task {
	return []task{
		{"promotion of learners", a.promoteLearners},
		{"this member's own vote", a.awaitVote},
		{"this member's address", a.tellAddress},
		{"snapshots", a.makeSnapshots},
		{"the snapshot store", a.sendSnapshots},
		{"defragmentation", a.defragmentMembers},
	}
}
