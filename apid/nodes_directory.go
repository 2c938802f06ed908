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

// directory knows the cluster's nodes and their addresses, as machined has them,
// and the control-plane nodes of the config. Nothing else is ever dialled: a
// client can name nodes, not places.
type directory struct {
	machined clusterpb.ClusterServiceClient
	// configured are the addresses of the config's control-plane nodes: before
	// there is a cluster that knows its nodes, they are what there is.
	configured []netip.Addr
	flight     singleflight.Group

	mu    sync.Mutex
	nodes []*clusterpb.Node
	asked time.Time
}

func newDirectory(machined clusterpb.ClusterServiceClient, configured []netip.Addr) *directory {
	return &directory{machined: machined, configured: configured}
}

// find returns the node of that name or address. One that is known by the config
// alone has its address for a name.
func (d *directory) find(ctx context.Context, name string) (*clusterpb.Node, error) {
	var found *clusterpb.Node
	nodes, err := d.list(ctx)
	if err == nil {
		found, err = pick(nodes, name)
	}
	address, _ := netip.ParseAddr(name) // stays invalid for a name
	address = address.Unmap()
	configured := slices.Contains(d.configured, address)
	unknown := status.Code(err) == codes.NotFound || status.Code(err) == codes.Unavailable
	switch {
	case configured && (unknown || err == nil && !found.GetControlPlane()):
		// What a worker says of itself counts less than the config.
		return &clusterpb.Node{Name: address.String(), Addresses: []string{address.String()}, ControlPlane: true}, nil
	case unknown && len(nodes) == 0 && len(d.configured) > 0:
		return nil, status.Errorf(status.Code(err), "%s; control-plane nodes can be asked for by their addresses: %s", status.Convert(err).Message(), listed(d.configured))
	}
	return found, err
}

func listed(addresses []netip.Addr) string {
	var texts []string
	for _, address := range addresses {
		texts = append(texts, address.String())
	}
	return strings.Join(texts, ", ")
}

// pick prefers a name to an address. Each node says itself which addresses it
// has: of two that say the same, none gets what is meant for the other.
func pick(nodes []*clusterpb.Node, name string) (*clusterpb.Node, error) {
	var names []string
	for _, node := range nodes {
		if strings.EqualFold(node.GetName(), name) {
			return node, nil
		}
		names = append(names, node.GetName())
	}
	var found *clusterpb.Node
	for _, node := range nodes {
		if !slices.ContainsFunc(node.GetAddresses(), func(address string) bool { return sameAddress(address, name) }) {
			continue
		}
		if found != nil {
			return nil, status.Errorf(codes.FailedPrecondition, "nodes %s and %s both say that %s is theirs: ask for one of them by its name", found.GetName(), node.GetName(), name)
		}
		found = node
	}
	if found != nil {
		return found, nil
	}
	if len(nodes) == 0 {
		return nil, status.Error(codes.NotFound, "the cluster has no nodes yet that are known here (osctl health)")
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
