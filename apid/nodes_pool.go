package main

import (
	"crypto/tls"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"
	"google.golang.org/grpc/status"

	clusterpb "github.com/keelson-os/keelson/pkg/api/cluster"
)

const (
	// maxOthers is how many nodes may have a connection from here.
	maxOthers = 64
	// maxNodeAddresses is how many of a node's addresses are tried.
	maxNodeAddresses = 4
	// dialTimeout is what a dead node costs, TCP and TLS together.
	dialTimeout = 5 * time.Second
	// otherIdle is when a connection without calls is closed.
	otherIdle = 2 * time.Minute
)

// otherAlive ends calls to a node that vanished: it is asked for a sign of life
// after Time, not more often than it takes (minKeepalive), and what was sent may
// stay unacknowledged for Timeout. It is asked also between calls, so that the
// next one seldom meets a connection that is dead already.
var otherAlive = keepalive.ClientParameters{Time: 20 * time.Second, Timeout: 15 * time.Second, PermitWithoutStream: true}

// pool holds one connection for each other node that was asked for lately.
type pool struct {
	certs *certificates
	port  string

	mu    sync.Mutex
	nodes map[string]*otherNode
}

// otherNode is another node's apid, as the client of which this one passes calls
// on. Whoever got it from the pool releases it.
type otherNode struct {
	*grpc.ClientConn
	name      string
	addresses []string // HOST:PORT
	// version is that of the certificates it is dialled with.
	version int

	pool *pool
	// Under the pool's lock: calls under way, when one began last, and whether the
	// last one closes the connection.
	calls   int
	used    time.Time
	retired bool
}

func newPool(certs *certificates, port string) *pool {
	return &pool{certs: certs, port: port, nodes: map[string]*otherNode{}}
}

// get returns the connection to a node, which the first call opens.
func (p *pool) get(node *clusterpb.Node) (*otherNode, error) {
	name, addresses := node.GetName(), p.addresses(node)
	if len(addresses) == 0 {
		return nil, status.Errorf(codes.Unavailable, "node %s has no address yet: it has not joined (osctl get nodes)", name)
	}
	config, version := p.certs.newest()
	p.mu.Lock()
	defer p.mu.Unlock()
	known := p.nodes[name]
	if known != nil && (known.version != version || !slices.Equal(known.addresses, addresses)) {
		p.retire(known)
		known = nil
	}
	if known == nil {
		if err := p.makeRoom(); err != nil {
			return nil, err
		}
		conn, err := dialOther(addresses, config)
		if err != nil {
			return nil, fmt.Errorf("prepare the connection to node %s: %w", name, err)
		}
		known = &otherNode{ClientConn: conn, name: name, addresses: addresses, version: version, pool: p}
		p.nodes[name] = known
	}
	if known.calls >= maxStreams {
		// One more would wait in silence: the other end takes no more.
		return nil, status.Errorf(codes.ResourceExhausted,
			"%d calls to node %s are under way through this node already: end some, or use another endpoint", known.calls, name)
	}
	known.calls++
	known.used = time.Now()
	return known, nil
}

func (p *pool) addresses(node *clusterpb.Node) []string {
	var all []string
	for _, address := range node.GetAddresses()[:min(len(node.GetAddresses()), maxNodeAddresses)] {
		all = append(all, net.JoinHostPort(address, p.port))
	}
	return all
}

// makeRoom closes the connection that was unused the longest, if there are too
// many.
func (p *pool) makeRoom() error {
	if len(p.nodes) < maxOthers {
		return nil
	}
	var oldest *otherNode
	for _, node := range p.nodes {
		if node.calls == 0 && (oldest == nil || node.used.Before(oldest.used)) {
			oldest = node
		}
	}
	if oldest == nil {
		return status.Errorf(codes.ResourceExhausted, "calls to %d nodes are under way through this node already: end some, or use another endpoint", maxOthers)
	}
	p.retire(oldest)
	return nil
}

// retire takes a connection out of use; calls under way end it.
func (p *pool) retire(node *otherNode) {
	delete(p.nodes, node.name)
	node.retired = true
	if node.calls == 0 {
		node.Close()
	}
}

func (p *pool) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, node := range p.nodes {
		node.Close()
	}
}

// release says that a call has ended.
func (n *otherNode) release() {
	n.pool.mu.Lock()
	defer n.pool.mu.Unlock()
	n.calls--
	if n.retired && n.calls == 0 {
		n.Close()
	}
}

func (n *otherNode) node() string { return n.name }

// explain leaves what the other node answered as it is.
func (n *otherNode) explain(err error, begun bool) error {
	reason, lost := connectionLost(n.ClientConn, err)
	if !lost {
		return err
	}
	at := strings.Join(n.addresses, ", ")
	if begun {
		return status.Errorf(codes.Unavailable, "node %s at %s stopped answering during the call (%s)", n.name, at, reason)
	}
	return status.Errorf(codes.Unavailable, "node %s does not answer at %s: %s", n.name, at, reason)
}

// dialOther prepares a connection. Each address is verified as what it was
// dialled by.
func dialOther(addresses []string, config *tls.Config) (*grpc.ClientConn, error) {
	state := resolver.State{}
	for _, address := range addresses {
		state.Addresses = append(state.Addresses, resolver.Address{Addr: address, ServerName: address})
	}
	builder := manual.NewBuilderWithScheme("keelson")
	builder.InitialState(state)
	return grpc.NewClient(builder.Scheme()+":///"+addresses[0],
		grpc.WithResolvers(builder),
		grpc.WithNoProxy(),
		grpc.WithTransportCredentials(credentials.NewTLS(config)),
		grpc.WithDefaultCallOptions(grpc.ForceCodecV2(frameCodec{}), grpc.MaxCallRecvMsgSize(maxRequest)),
		grpc.WithConnectParams(redial(dialTimeout)),
		grpc.WithKeepaliveParams(otherAlive),
		grpc.WithIdleTimeout(otherIdle),
		// A retry would keep sent messages in memory.
		grpc.WithDisableRetry(),
	)
}
