package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"time"

	"golang.org/x/net/netutil"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	joinpb "github.com/keelson-os/keelson/pkg/api/join"
	"github.com/keelson-os/keelson/pkg/identity"
	"github.com/keelson-os/keelson/pkg/throttle"
)

// What strangers may hold of the node. A node that joins makes one call of a
// few KiB.
const (
	maxStrangers     = 64 // connections of all together
	maxOfOneStranger = 8
	maxJoinStreams   = 4
	maxJoinRequest   = 64 << 10
	maxJoinHeaders   = 8 << 10
	// joinTimeout bounds machined's answer; a node that joins waits for 10 s.
	joinTimeout = 15 * time.Second
	// strangerIdle and strangerAge end connections that nobody uses, and those
	// that somebody keeps.
	strangerIdle = 20 * time.Second
	strangerAge  = time.Minute
)

// How often a stranger may call, and all of them together. Nodes that were let
// in come back every few days, and those that were not within half a minute.
var (
	joinsOfOne = throttle.Limit{Burst: 12, Every: 5 * time.Second}
	joinsOfAll = throttle.Limit{Burst: 100, Every: 100 * time.Millisecond}
)

// joinDoor is where nodes without a certificate knock: a server of its own, in
// which there is nothing else to ask for. Requests are decoded here, without
// privileges, before machined sees them.
type joinDoor struct {
	joinpb.UnimplementedJoinServiceServer
	machined localBackend
	calls    *throttle.Remotes
	refused  *throttledLog
	grpc     *grpc.Server
}

// newJoinDoor makes the server. Its clients need no certificate.
func newJoinDoor(certs *certificates, to localBackend, log *slog.Logger) *joinDoor {
	// A log of its own: what strangers do here must not hide what they do there.
	d := &joinDoor{machined: to, calls: throttle.New(joinsOfOne, joinsOfAll), refused: newThrottledLog(log)}
	entry := entry{admit: d.admit, log: log}
	d.grpc = grpc.NewServer(
		grpc.Creds(&loggedHandshakes{credentials.NewTLS(certs.withoutClients()), d.refused}),
		grpc.UnaryInterceptor(entry.unary),
		grpc.ConnectionTimeout(handshakeTimeout),
		grpc.MaxConcurrentStreams(maxJoinStreams),
		grpc.MaxRecvMsgSize(maxJoinRequest),
		grpc.MaxHeaderListSize(maxJoinHeaders),
		grpc.KeepaliveParams(keepalive.ServerParameters{
			MaxConnectionIdle: strangerIdle, MaxConnectionAge: strangerAge, MaxConnectionAgeGrace: joinTimeout,
			Time: keepaliveIdle, Timeout: keepaliveTimeout,
		}),
	)
	joinpb.RegisterJoinServiceServer(d.grpc, d)
	return d
}

// admit lets everyone in who does not knock too often.
func (d *joinDoor) admit(ctx context.Context, method string) (caller, error) {
	if d.calls.Take(remoteAddr(ctx), time.Now()) {
		return caller{}, nil
	}
	err := status.Error(codes.ResourceExhausted, "too many attempts to join: wait a minute, then try again")
	d.refused.warn("join refused", "method", method, "remote", remote(ctx), "reason", status.Convert(err).Message())
	return caller{}, err
}

// Join passes the request on, with the address it came from and nothing else of
// what the stranger sent.
func (d *joinDoor) Join(ctx context.Context, request *joinpb.JoinRequest) (*joinpb.JoinResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, joinTimeout)
	defer cancel()
	told := metadata.NewOutgoingContext(ctx, metadata.Pairs(identity.MetadataRemote, remoteAddr(ctx).String()))
	response, err := joinpb.NewJoinServiceClient(d.machined).Join(told, request)
	if err != nil {
		err = d.machined.explain(err, false)
		d.refused.warn("join refused", "remote", remote(ctx), "code", status.Code(err).String(), "reason", status.Convert(err).Message())
	}
	return response, err
}

// serve answers until ctx ends.
func (d *joinDoor) serve(ctx context.Context, listener net.Listener) error {
	// A call under way is short, and its node tries again.
	defer context.AfterFunc(ctx, d.grpc.Stop)()
	few := newFewEach(netutil.LimitListener(listener, maxStrangers), maxOfOneStranger)
	if err := d.grpc.Serve(few); err != nil && !errors.Is(err, grpc.ErrServerStopped) {
		return fmt.Errorf("let nodes join on %s: %w", listener.Addr(), err)
	}
	return nil
}

// serveBoth serves the API and the join door until ctx ends or one of them
// cannot go on.
func (s *server) serveBoth(ctx context.Context, listener, joins net.Listener) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := make(chan error, 1)
	go func() {
		defer cancel()
		ended <- s.join.serve(ctx, joins)
	}()
	err := s.serve(ctx, listener)
	cancel()
	return errors.Join(err, <-ended)
}

// withoutClients is the configuration to listen with where clients have no
// certificate yet.
func (c *certificates) withoutClients() *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS13, GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		config, err := c.forClient(hello)
		if err != nil {
			return nil, err
		}
		config = config.Clone()
		config.ClientAuth, config.ClientCAs = tls.NoClientCert, nil
		return config, nil
	}}
}

// remoteAddr is where a call comes from.
func remoteAddr(ctx context.Context) netip.Addr {
	if p, ok := peer.FromContext(ctx); ok {
		return addrOf(p.Addr)
	}
	return netip.Addr{}
}

func addrOf(address net.Addr) netip.Addr {
	if tcp, ok := address.(*net.TCPAddr); ok {
		return tcp.AddrPort().Addr().Unmap()
	}
	return netip.Addr{}
}
