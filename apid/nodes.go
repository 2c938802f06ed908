package main

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	clusterpb "github.com/keelson-os/keelson/pkg/api/cluster"
	"github.com/keelson-os/keelson/pkg/identity"
)

// maxNodeName is characters of a node's name or address; DNS has no longer ones.
const maxNodeName = 253

// others is the way to the cluster's other nodes.
type others struct {
	// self is this node's name.
	self  func() string
	nodes *directory
	// pool is nil on a node that passes nothing on.
	pool *pool
}

// newOthers prepares the way; nobody is asked or dialled before a call needs it.
func newOthers(o options, machined localBackend, log *slog.Logger) (*others, error) {
	other := &others{self: hostname, nodes: newDirectory(clusterpb.NewClusterServiceClient(machined), o.controlPlanes)}
	if o.node != "" {
		other.self = func() string { return o.node }
	}
	if o.forwardCert == "" {
		return other, nil
	}
	certs, err := loadForwarder(o, log)
	if err != nil {
		return nil, err
	}
	_, port, err := net.SplitHostPort(o.listen)
	if err != nil {
		return nil, err
	}
	other.pool = newPool(certs, port)
	return other, nil
}

func hostname() string {
	name, _ := os.Hostname() // fails only without uname(2)
	return name
}

// route is the decision where a call goes. A call that was passed on is never
// passed on again, so that no two nodes can send one in circles.
func (o *others) route(ctx context.Context) (*otherNode, error) {
	name, err := askedNode(ctx)
	if name == "" || err != nil {
		return nil, err
	}
	return o.find(ctx, name)
}

// find returns the way to a node, which the caller releases; nil when it is this
// one.
func (o *others) find(ctx context.Context, name string) (*otherNode, error) {
	if strings.EqualFold(name, o.self()) {
		return nil, nil
	}
	if arrivedAt(ctx, name) {
		return nil, nil
	}
	if who, _ := callerFrom(ctx); who.via != "" {
		// Addresses move between nodes; a reboot must not hit the wrong one.
		return nil, status.Errorf(codes.FailedPrecondition,
			"this is node %s, and the call that %s passed on is for node %q: its list of nodes is out of date; try again in a minute", o.self(), who.via, name)
	}
	if o.pool == nil {
		return nil, status.Error(codes.FailedPrecondition, "this node is a worker and passes nothing on: use a control-plane node as endpoint")
	}
	node, err := o.nodes.find(ctx, name)
	if err != nil || strings.EqualFold(node.GetName(), o.self()) {
		return nil, err
	}
	return o.pool.get(node)
}

func (o *others) close() {
	if o.pool != nil {
		o.pool.close()
	}
}

// askedNode is the node that the client wants its answer of, "" for this one.
func askedNode(ctx context.Context) (string, error) {
	sent, _ := metadata.FromIncomingContext(ctx)
	switch names := sent.Get(identity.MetadataNode); {
	case len(names) == 0:
		return "", nil
	case len(names) > 1:
		return "", status.Errorf(codes.InvalidArgument, "a call is for one node, not for %d", len(names))
	default:
		return names[0], checkNodeName(names[0])
	}
}

func checkNodeName(name string) error {
	if name == "" || len(name) > maxNodeName {
		return status.Error(codes.InvalidArgument, "the name of the node that is asked for is empty or too long")
	}
	return nil
}

// arrivedAt tells whether the name is the address at which the call came in.
func arrivedAt(ctx context.Context, name string) bool {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return false
	}
	asked, err := netip.ParseAddr(name)
	return err == nil && asked.Unmap() == addrOf(p.LocalAddr)
}
