package main

import (
	"context"
	"errors"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/keelson-os/keelson/pkg/api/cluster"
	"github.com/keelson-os/keelson/pkg/client"
)

const (
	// everyNode is the name that stands for all nodes of the cluster.
	everyNode = "all"
	// answerTimeout is how long each of several nodes may take for an answer. It
	// is far above the few seconds after which the endpoint gives a dead node up.
	answerTimeout = 30 * time.Second
	// maxAsked is how many nodes are asked at once for one answer each; streams
	// are all open at once.
	maxAsked = 32
	// maxShared is how many nodes share a connection: apid takes 100 calls on one.
	maxShared = 64
)

// errReported ends a command some of whose nodes failed; each has had its line.
var errReported = errors.New("not every node answered")

// fanout is the nodes that a command asks: those of -N, or the endpoint's. A
// command that goes through it works for one node and for many:
//
//	nodes, err := app.fanOut(ctx)
//	…
//	return ask(ctx, nodes, answerTimeout,
//		func(ctx context.Context, node *askedNode) (*service.ListResponse, error) {
//			return node.Service.List(ctx, &service.ListRequest{})
//		},
//		func(answers []answer[*service.ListResponse]) error {
//			if format != asTable {
//				return printAnswers(nodes, format, answers) // JSON, YAML
//			}
//			table := newTable("NODE", "NAME")
//			for _, answer := range answers {
//				table.add(answer.node.name, …)
//			}
//			return nodes.print(table) // leaves NODE out if there is one node
//		})
//
// Streams are read with follow, and printed with the node's line and message.
// What neither fits (uploads, for example) uses each. A node that fails costs
// one line on stderr and the exit code 1; the answers of the others are shown.
// With one node its error is the command's, as if there were no fan-out.
type fanout struct {
	app   *app
	nodes []*askedNode
	// labelled tells that answers need their node's name: several nodes are asked,
	// or all of them, how many that may be: scripts see the same form then.
	labelled bool

	// printing is held while a line is written: nodes answer at the same time.
	printing sync.Mutex
}

// askedNode is one of a fan-out's nodes, and the client that asks it.
type askedNode struct {
	*client.Client
	name   string
	index  int
	fanout *fanout
	// through asks the endpoint itself, for calls that name nodes in another way;
	// nil where there is none.
	through *client.Client
	// direct tells that it is dialled by itself, not through the endpoint.
	direct bool
}

// answer is what one node answered.
type answer[T any] struct {
	node  *askedNode
	value T
}

// fanOut returns the nodes that -N names, ready to be asked. All nodes are those
// that suit, if a function says which.
func (app *app) fanOut(ctx context.Context, suits ...func(*cluster.Node) bool) (*fanout, error) {
	fan := &fanout{app: app}
	if len(app.nodes) == 0 || len(app.nodes) == 1 && app.nodes[0] != everyNode {
		node, err := app.connect(ctx)
		if err != nil {
			return nil, err
		}
		fan.add(node, "", false)
		return fan, nil
	}
	fan.labelled = true
	access, _, err := app.currentContext()
	if err != nil {
		return nil, err
	}
	names, err := app.nodeNames(ctx, access, suits...)
	if err != nil {
		return nil, err
	}
	var shared *client.Client
	sharing := maxShared
	for _, name := range names {
		if _, _, err := net.SplitHostPort(name); err == nil {
			node, err := app.connectTo(ctx, access.Options(name))
			if err != nil {
				return nil, err
			}
			fan.add(node, name, true)
			continue
		}
		if sharing == maxShared {
			if shared, err = app.connectTo(ctx, access.Options("")); err != nil {
				return nil, err
			}
			sharing = 0
		}
		sharing++
		fan.add(shared.Node(name), name, false).through = shared
	}
	return fan, nil
}

// fanOutNamed is fanOut for commands that change a node.
func (app *app) fanOutNamed(ctx context.Context, suits ...func(*cluster.Node) bool) (*fanout, error) {
	if err := app.named(); err != nil {
		return nil, err
	}
	return app.fanOut(ctx, suits...)
}

// connectNamed is connect for commands that change a node.
func (app *app) connectNamed(ctx context.Context) (*client.Client, error) {
	if err := app.named(); err != nil {
		return nil, err
	}
	return app.connect(ctx)
}

// named refuses to change a node that nobody named: with several endpoints the
// one that answers first is not always the same.
func (app *app) named() error {
	if len(app.nodes) > 0 || app.endpoint != "" {
		return nil
	}
	access, _, err := app.currentContext()
	if err != nil {
		return err
	}
	if len(access.Endpoints) > 1 {
		return usagef("which node? name it with -N: the context has several endpoints")
	}
	return nil
}

func (fan *fanout) add(client *client.Client, name string, direct bool) *askedNode {
	node := &askedNode{Client: client, name: name, index: len(fan.nodes), fanout: fan, direct: direct}
	fan.nodes = append(fan.nodes, node)
	return node
}

// nodeNames returns the names of -N without repetition; "all" is looked up in
// the cluster.
func (app *app) nodeNames(ctx context.Context, access *client.Context, suits ...func(*cluster.Node) bool) ([]string, error) {
	if !slices.Contains(app.nodes, everyNode) {
		var names []string
		for _, name := range app.nodes {
			if name == "" {
				return nil, usagef("-N: a node's name is missing")
			}
			if !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
		return names, nil
	}
	if len(app.nodes) > 1 {
		return nil, usagef("-N: %q stands for all nodes, others besides it make no sense", everyNode)
	}
	endpoint, err := app.connectTo(ctx, access.Options(""))
	if err != nil {
		return nil, err
	}
	defer endpoint.Close()
	return clusterNodes(ctx, endpoint, suits...)
}

// clusterNodes returns the names of the cluster's nodes, those that suit.
func clusterNodes(ctx context.Context, endpoint *client.Client, suits ...func(*cluster.Node) bool) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	list, err := endpoint.Cluster.Nodes(ctx, &cluster.NodesRequest{})
	if err != nil {
		return nil, err
	}
	var names []string
	for _, node := range list.GetNodes() {
		if !slices.ContainsFunc(suits, func(suits func(*cluster.Node) bool) bool { return !suits(node) }) {
			names = append(names, node.GetName())
		}
	}
	slices.Sort(names)
	if len(names) == 0 {
		return nil, errors.New("the cluster has no nodes yet: osctl health says how far it is")
	}
	return names, nil
}

// ask calls every node and shows the answers, in the order of the nodes. Of
// several nodes each has its own timeout, unless it is 0.
func ask[T any](ctx context.Context, fan *fanout, timeout time.Duration,
	call func(context.Context, *askedNode) (T, error), show func([]answer[T]) error,
) error {
	all := make([]*answer[T], len(fan.nodes))
	failed := fan.each(ctx, maxAsked, func(ctx context.Context, node *askedNode) error {
		if fan.labelled && timeout > 0 {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(ctx, timeout)
			defer cancel()
		}
		value, err := call(ctx, node)
		if err == nil {
			all[node.index] = &answer[T]{node, value}
		}
		return err
	})
	var came []answer[T]
	for _, one := range all {
		if one != nil {
			came = append(came, *one)
		}
	}
	if len(came) == 0 || failed != nil && !errors.Is(failed, errReported) {
		return failed
	}
	if err := show(came); err != nil {
		return err
	}
	return failed
}

// follow opens a stream of every node and shows their messages as they come,
// until all streams have ended.
func follow[M any](ctx context.Context, fan *fanout,
	open func(context.Context, *askedNode) (grpc.ServerStreamingClient[M], error), show func(*askedNode, *M) error,
) error {
	return fan.each(ctx, -1, func(ctx context.Context, node *askedNode) error {
		stream, err := open(ctx, node)
		if err != nil {
			return err
		}
		return each(stream, func(message *M) error { return show(node, message) })
	})
}

// each calls do for all nodes, limit of them at once (-1: all). A node that
// fails is reported; what ends the way to all of them ends the others' calls.
func (fan *fanout) each(ctx context.Context, limit int, do func(context.Context, *askedNode) error) error {
	if !fan.labelled {
		return do(ctx, fan.nodes[0])
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(limit)
	var failed atomic.Bool
	for _, node := range fan.nodes {
		group.Go(func() error {
			err := do(ctx, node)
			if err == nil {
				return nil
			}
			if ctx.Err() != nil || !node.direct && endpointLost(err) {
				return err
			}
			failed.Store(true)
			node.complain(err)
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	if failed.Load() {
		return errReported
	}
	return nil
}

// endpointLost tells that the call did not reach even the endpoint.
func endpointLost(err error) bool {
	if status.Code(err) != codes.Unavailable {
		return false
	}
	_, ours := client.ConnectionReason(status.Convert(err).Message())
	return ours
}
