package main

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	clusterpb "github.com/keelson-os/keelson/pkg/api/cluster"
	"github.com/keelson-os/keelson/pkg/nearest"
)

const (
	// directoryAge is how long machined's list is used: a command for all nodes
	// asks for it once.
	directoryAge = 3 * time.Second
	// directoryTimeout bounds machined's answer, which it has in memory.
	directoryTimeout = 5 * time.Second
)

// directory knows the cluster's nodes and their addresses, as machined has them.
// Nothing else is ever dialled: a client can name nodes, not places.
type directory struct {
	machined clusterpb.ClusterServiceClient
	flight   singleflight.Group

	mu    sync.Mutex
	nodes []*clusterpb.Node
	asked time.Time
}

func newDirectory(machined clusterpb.ClusterServiceClient) *directory {
	return &directory{machined: machined}
}

// find returns the node of that name or address.
func (d *directory) find(ctx context.Context, name string) (*clusterpb.Node, error) {
	nodes, err := d.list(ctx)
	if err != nil {
		return nil, err
	}
	return pick(nodes, name)
}

// pick prefers a name to an address.
func pick(nodes []*clusterpb.Node, name string) (*clusterpb.Node, error) {
	var names []string
	for _, node := range nodes {
		if strings.EqualFold(node.GetName(), name) {
			return node, nil
		}
		names = append(names, node.GetName())
	}
	for _, node := range nodes {
		if slices.ContainsFunc(node.GetAddresses(), func(address string) bool { return sameAddress(address, name) }) {
			return node, nil
		}
	}
	return nil, status.Errorf(codes.NotFound, "the cluster has no node %q; its nodes are: %s", name, nearest.List(name, names))
}

func sameAddress(a, b string) bool {
	left, err := netip.ParseAddr(a)
	if err != nil {
		return strings.EqualFold(a, b)
	}
	right, err := netip.ParseAddr(b)
	return err == nil && left.Unmap() == right.Unmap()
}

// list returns machined's list, a few seconds old at most. Callers that come at
// the same time share one question.
func (d *directory) list(ctx context.Context) ([]*clusterpb.Node, error) {
	d.mu.Lock()
	nodes, fresh := d.nodes, !d.asked.IsZero() && time.Since(d.asked) < directoryAge
	d.mu.Unlock()
	if fresh {
		return nodes, nil
	}
	answered := d.flight.DoChan("", func() (any, error) {
		// Of all who wait, none may end the question for the others.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), directoryTimeout)
		defer cancel()
		response, err := d.machined.Nodes(ctx, &clusterpb.NodesRequest{})
		if err != nil {
			return nil, err
		}
		d.mu.Lock()
		defer d.mu.Unlock()
		d.nodes, d.asked = response.GetNodes(), time.Now()
		return d.nodes, nil
	})
	select {
	case result := <-answered:
		if result.Err != nil {
			return nil, status.Errorf(codes.Unavailable, "which nodes the cluster has is not known here: %s", status.Convert(result.Err).Message())
		}
		return result.Val.([]*clusterpb.Node), nil
	case <-ctx.Done():
		return nil, status.FromContextError(ctx.Err()).Err()
	}
}
