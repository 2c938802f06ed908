package main

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"strings"
	"time"

	"golang.org/x/net/netutil"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/reflection"
	reflectionpb "google.golang.org/grpc/reflection/grpc_reflection_v1"

	"github.com/keelson-os/keelson/apid/workloads"
	workloadpb "github.com/keelson-os/keelson/pkg/api/workload"
)

// What one client, and all of them together, may hold of the node.
const (
	// maxConnections is for all clients together; more wait in the kernel's
	// accept queue.
	maxConnections = 256
	// maxStreams is for one connection.
	maxStreams = 100
	// maxRequest is bytes of one request message. The largest are manifests of
	// custom resource definitions, a few MiB.
	maxRequest = 16 << 20
	// maxStrangersRequest takes its place in maintenance, where nobody had to
	// prove anything yet when a request is read; its methods need a few bytes.
	maxStrangersRequest = 16 << 10
	// maxHeaders is bytes of one call's metadata.
	maxHeaders = 64 << 10
	// handshakeTimeout bounds what a client that says nothing may hold.
	handshakeTimeout = 10 * time.Second
	// stopTimeout is how long calls under way may take to end; it is below the
	// supervisor's own limit, and log streams never end by themselves.
	stopTimeout = 5 * time.Second
)

// Pings: a client may send one every minKeepalive, and the server asks for a
// sign of life after keepaliveIdle, so that the streams of a client that
// vanished end within about a minute and a half.
const (
	minKeepalive     = 15 * time.Second
	keepaliveIdle    = time.Minute
	keepaliveTimeout = 20 * time.Second
)

// server is the gRPC server and what it holds open.
type server struct {
	grpc   *grpc.Server
	health *health.Server
	local  local
	others *others
	// spreader imports an archive on several nodes.
	spreader *spreader
	// join is where other nodes join; nil where they cannot.
	join *joinDoor
	// grace is how long calls under way may take to end.
	grace time.Duration
}

// newServer assembles the API. It opens no connection yet: machined and
// Kubernetes are dialled by the first call that needs them.
func newServer(o options, log *slog.Logger) (*server, error) {
	certs, err := loadCertificates(o, log)
	if err != nil {
		return nil, err
	}
	refused := newThrottledLog(log)
	local, err := dialProcesses(o)
	if err != nil {
		return nil, err
	}
	others, err := newOthers(o, local.machined, log)
	if err != nil {
		return nil, err
	}
	admit, route, largest := requireRole(o.table(), log), others.route, maxRequest
	if o.maintenance {
		code, err := readPairingCode(o.pairingCode)
		if err != nil {
			return nil, err
		}
		admit, route, largest = requirePairing(code, refused), nil, maxStrangersRequest
	}
	s := &server{health: health.NewServer(), local: local, others: others, grace: stopTimeout}
	router := &router{direct: local.direct}
	entry := entry{admit: admit, route: route, log: log}
	s.grpc = grpc.NewServer(
		grpc.Creds(&loggedHandshakes{credentials.NewTLS(certs.config()), refused}),
		grpc.UnaryInterceptor(entry.unary),
		grpc.StreamInterceptor(entry.stream),
		grpc.UnknownServiceHandler(router.forward),
		grpc.ForceServerCodecV2(frameCodec{}),
		grpc.ConnectionTimeout(handshakeTimeout),
		grpc.MaxConcurrentStreams(maxStreams),
		grpc.MaxRecvMsgSize(largest),
		grpc.MaxHeaderListSize(maxHeaders),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: minKeepalive, PermitWithoutStream: true}),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: keepaliveIdle, Timeout: keepaliveTimeout}),
	)
	workloadpb.RegisterWorkloadServiceServer(s.grpc, workloads.New(workloads.Options{
		Kubeconfig: o.kubeconfig,
		Caller:     impersonate,
		Log:        log,
	}))
	s.spreader = newSpreader(others, local.machined)
	s.spreader.register(s.grpc)
	healthpb.RegisterHealthServer(s.grpc, s.health)
	reflectionpb.RegisterServerReflectionServer(s.grpc, reflection.NewServerV1(reflection.ServerOptions{Services: served{}}))
	if o.joinListen != "" {
		s.join = newJoinDoor(certs, local.machined, log)
	}
	return s, nil
}

// serve answers calls until ctx ends, then lets those under way end.
func (s *server) serve(ctx context.Context, listener net.Listener) error {
	defer context.AfterFunc(ctx, s.stop)()
	if err := s.grpc.Serve(netutil.LimitListener(listener, maxConnections)); err != nil {
		return fmt.Errorf("serve the API on %s: %w", listener.Addr(), err)
	}
	// Serve returns as soon as the listener is closed; this waits for the calls.
	s.stop()
	return nil
}

// stop refuses new calls and waits for those under way, up to grace.
func (s *server) stop() {
	s.health.Shutdown()
	cut := time.AfterFunc(s.grace, s.grpc.Stop)
	defer cut.Stop()
	s.grpc.GracefulStop()
}

func (s *server) close() {
	s.grpc.Stop()
	s.others.close()
	s.local.close()
}

// served tells the reflection service which services there are. The gRPC
// server does not know: most of them are routed to other processes.
type served struct{}

func (served) GetServiceInfo() map[string]grpc.ServiceInfo {
	services := make(map[string]grpc.ServiceInfo)
	for method := range maps.Keys(methods) {
		service, _, _ := strings.Cut(strings.TrimPrefix(method, "/"), "/")
		services[service] = grpc.ServiceInfo{}
	}
	return services
}
