package main

import (
	"context"
	"fmt"
	"maps"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/keelson-os/keelson/pkg/api/cluster"
	"github.com/keelson-os/keelson/pkg/api/etcd"
	"github.com/keelson-os/keelson/pkg/api/machine"
	"github.com/keelson-os/keelson/pkg/client"
	"github.com/keelson-os/keelson/pkg/provision"
	"github.com/keelson-os/keelson/pkg/provision/qemu"
)

// How long a node may take to answer when it is watched: a boot goes on
// whether it does or not. What asks other nodes in turn takes longer, when one of
// them is dead.
const (
	lookTimeout    = 5 * time.Second
	clusterTimeout = 10 * time.Second
	healthTimeout  = 15 * time.Second
)

// watch asks every node of a cluster, again and again and at once, how it is.
// Each is asked by itself, through its own forward: what the nodes know of each
// other is what is to be found out.
type watch struct {
	app     *app
	nodes   []provision.NodeLayout
	clients map[string]*client.Client
	cancel  context.CancelFunc
	asking  sync.WaitGroup

	mu      sync.Mutex
	answers map[string]nodeAnswer
	started map[string]time.Time // when its machine was first seen to run
	// What a control-plane node last said of all.
	kubernetes map[string]*cluster.Node
	members    map[string]*etcd.Member
	// The nodes do not know these calls.
	noNodes, noMembers bool
}

// nodeAnswer is what one node last said of itself.
type nodeAnswer struct {
	// answered is set for good when its API was up for the first time.
	answered bool
	// err is why it does not answer now.
	err    error
	status *machine.StatusResponse
	health *cluster.HealthResponse
}

// newWatch prepares to ask; close ends it.
func (app *app) newWatch(ctx context.Context, layout provision.Layout, access *client.Context) (*watch, error) {
	ctx, cancel := context.WithCancel(ctx)
	watch := &watch{
		app: app, nodes: layout.Nodes, cancel: cancel,
		clients: map[string]*client.Client{}, answers: map[string]nodeAnswer{}, started: map[string]time.Time{},
	}
	for _, node := range layout.Nodes {
		own, err := app.connectTo(ctx, access.Options(node.API.String()))
		if err != nil {
			cancel()
			return nil, fmt.Errorf("node %s: %w", node.Name, err)
		}
		watch.clients[node.Name] = own // closed with ctx
	}
	return watch, nil
}

// begin asks until ctx ends or the watch is closed.
func (watch *watch) begin(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	closed := watch.cancel
	watch.cancel = func() { cancel(); closed() }
	for _, node := range watch.nodes {
		watch.repeat(ctx, func() { watch.askNode(ctx, node.Name) })
	}
	watch.repeat(ctx, func() { watch.askCluster(ctx) })
}

// once asks the nodes whose machines run for one answer each, and then one of
// them for all.
func (watch *watch) once(ctx context.Context, state provision.Status) {
	nodesCtx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	for _, node := range state.Nodes {
		if node.PID != 0 {
			watch.asking.Go(func() { watch.askNode(nodesCtx, node.Name) })
		}
	}
	watch.asking.Wait()
	watch.learn(func() {
		for name, answer := range watch.answers {
			answer.answered = true // whether it is on its way up one look cannot tell
			watch.answers[name] = answer
		}
	})
	ctx, cancel = context.WithTimeout(ctx, clusterTimeout)
	defer cancel()
	watch.askCluster(ctx)
}

func (watch *watch) close() {
	watch.cancel()
	watch.asking.Wait()
}

// repeat asks until ctx ends.
func (watch *watch) repeat(ctx context.Context, ask func()) {
	watch.asking.Go(func() {
		for ctx.Err() == nil {
			began := time.Now()
			ask()
			// Nodes that take long to answer are busy: asking is work for them too.
			select {
			case <-time.After(watch.app.pollInterval + 2*time.Since(began)):
			case <-ctx.Done():
			}
		}
	})
}

func (watch *watch) client(node string) *client.Client { return watch.clients[node] }

// askNode asks a node for its own state.
func (watch *watch) askNode(ctx context.Context, name string) {
	answer := nodeAnswer{}
	answer.status, answer.err = asked(ctx, lookTimeout, watch.client(name).Machine.Status, &machine.StatusRequest{})
	if answer.err == nil && answer.status.GetStage() != machine.StatusResponse_STAGE_MAINTENANCE {
		// A node that is asked too early, or too busy to check itself, has no health.
		answer.health, _ = asked(ctx, healthTimeout, watch.client(name).Cluster.Health, &cluster.HealthRequest{})
	}
	watch.mu.Lock()
	defer watch.mu.Unlock()
	before := watch.answers[name]
	answer.answered = before.answered || answer.err == nil || inMaintenance(answer.err)
	if before.err != nil && status.Code(answer.err) == codes.DeadlineExceeded {
		answer.err = before.err // a try that was cut short says less than one before it
	}
	watch.answers[name] = answer
}

// askCluster asks the first control-plane node that answers for all of them.
func (watch *watch) askCluster(ctx context.Context) {
	var nodes *cluster.NodesResponse
	var members *etcd.MembersResponse
	for _, node := range watch.nodes {
		if !node.ControlPlane || watch.answer(node.Name).status == nil {
			continue
		}
		var err error
		if nodes == nil {
			nodes, err = asked(ctx, lookTimeout, watch.client(node.Name).Cluster.Nodes, &cluster.NodesRequest{})
			watch.learn(func() { watch.noNodes = status.Code(err) == codes.Unimplemented })
		}
		if members == nil {
			members, err = asked(ctx, clusterTimeout, watch.client(node.Name).Etcd.Members, &etcd.MembersRequest{})
			watch.learn(func() { watch.noMembers = status.Code(err) == codes.Unimplemented })
		}
		if nodes != nil && members != nil {
			break
		}
	}
	watch.learn(func() {
		watch.kubernetes, watch.members = map[string]*cluster.Node{}, map[string]*etcd.Member{}
		for _, node := range nodes.GetNodes() {
			watch.kubernetes[node.GetName()] = node
		}
		for _, member := range members.GetMembers() {
			watch.members[member.GetName()] = member
		}
	})
}

func (watch *watch) learn(fact func()) {
	watch.mu.Lock()
	defer watch.mu.Unlock()
	fact()
}

func (watch *watch) answer(node string) nodeAnswer {
	watch.mu.Lock()
	defer watch.mu.Unlock()
	return watch.answers[node]
}

// look puts together what is known at this moment.
func (watch *watch) look(state provision.Status) clusterLook {
	watch.mu.Lock()
	defer watch.mu.Unlock()
	seen := clusterLook{
		emulated: state.Host.Accel == qemu.TCG, bootstrapped: state.Bootstrapped,
		kubernetes: maps.Clone(watch.kubernetes), members: maps.Clone(watch.members),
		noNodes: watch.noNodes, noMembers: watch.noMembers,
	}
	for _, node := range state.Nodes {
		if node.PID != 0 {
			watch.noteStart(node.Name)
		}
		since, started := watch.started[node.Name]
		look := nodeLook{NodeStatus: node, nodeAnswer: watch.answers[node.Name], started: started}
		if started {
			look.on = watch.app.now().Sub(since)
		}
		seen.nodes = append(seen.nodes, look)
	}
	return seen
}

// noteStart remembers that a machine runs, or should; the lock is held.
func (watch *watch) noteStart(node string) {
	if _, known := watch.started[node]; !known {
		watch.started[node] = watch.app.now()
	}
}

// asked makes one call with a deadline of its own.
func asked[Request, Answer, Option any](
	ctx context.Context, timeout time.Duration,
	call func(context.Context, Request, ...Option) (Answer, error), request Request,
) (Answer, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	answer, err := call(ctx, request)
	return answer, err
}
