package api

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/reflection"

	"github.com/keelson-os/keelson/machined/supervise"
	"github.com/keelson-os/keelson/pkg/api/cluster"
	"github.com/keelson-os/keelson/pkg/api/image"
	"github.com/keelson-os/keelson/pkg/api/install"
	"github.com/keelson-os/keelson/pkg/api/join"
	"github.com/keelson-os/keelson/pkg/api/log"
	"github.com/keelson-os/keelson/pkg/api/machine"
	"github.com/keelson-os/keelson/pkg/api/service"
	"github.com/keelson-os/keelson/pkg/api/upgrade"
)

// Socket is where machined serves its API.
const Socket = "/run/keelson/machined/machined.sock"

const (
	// maxMessage is bytes of one request; image chunks, the largest, have 1 MiB.
	maxMessage = 4 << 20
	// maxStreams per connection. apid has one connection for all its clients.
	maxStreams = 512
	// minPing is how often apid may ask for a sign of life.
	minPing = 10 * time.Second
	// stopGrace is how long calls under way may take once the server stops;
	// those that follow something never end by themselves.
	stopGrace = time.Second
)

// Options are what the API is about.
type Options struct {
	Log        *slog.Logger
	Node       Node
	Supervisor *supervise.Supervisor
	Events     *Events
	Kernel     KernelLog
	Installer  Installer
}

// Server is machined's gRPC server.
type Server struct {
	grpc   *grpc.Server
	health *health.Server
	late   *late
}

// New assembles the services.
func New(opts Options) *Server {
	entry := entry{log: opts.Log, events: opts.Events}
	s := &Server{health: health.NewServer(), late: &late{node: opts.Node}}
	s.grpc = grpc.NewServer(
		grpc.UnaryInterceptor(entry.unary),
		grpc.StreamInterceptor(entry.stream),
		grpc.MaxRecvMsgSize(maxMessage),
		grpc.MaxConcurrentStreams(maxStreams),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: minPing, PermitWithoutStream: true}),
	)
	machine.RegisterMachineServiceServer(s.grpc, &machineService{node: opts.Node, events: opts.Events})
	service.RegisterServiceServiceServer(s.grpc, &serviceService{supervisor: opts.Supervisor})
	log.RegisterLogServiceServer(s.grpc, &logService{read: opts.Kernel})
	cluster.RegisterClusterServiceServer(s.grpc, &clusterService{late: s.late})
	image.RegisterImageServiceServer(s.grpc, &lateImages{late: s.late})
	install.RegisterInstallServiceServer(s.grpc, &installService{installer: opts.Installer})
	upgrade.RegisterUpgradeServiceServer(s.grpc, &upgradeService{late: s.late})
	join.RegisterJoinServiceServer(s.grpc, &joinService{late: s.late})
	healthpb.RegisterHealthServer(s.grpc, s.health)
	reflection.Register(s.grpc)
	return s
}

// SetCluster hands over the cluster once the node has one.
func (s *Server) SetCluster(c Cluster) {
	s.late.mu.Lock()
	defer s.late.mu.Unlock()
	s.late.cluster = c
}

// SetImages hands over the image service once containerd can be asked.
func (s *Server) SetImages(images image.ImageServiceServer) {
	s.late.mu.Lock()
	defer s.late.mu.Unlock()
	s.late.images = images
}

// SetUpgrader hands over the node's slots; nil says that it has none.
func (s *Server) SetUpgrader(upgrader Upgrader) {
	s.late.mu.Lock()
	defer s.late.mu.Unlock()
	s.late.upgrader = upgrader
}

// SetJoiner hands over who lets others join, once there is one.
func (s *Server) SetJoiner(joiner Joiner) {
	s.late.mu.Lock()
	defer s.late.mu.Unlock()
	s.late.joiner = joiner
}

// Serve answers calls on the listener until ctx ends.
func (s *Server) Serve(ctx context.Context, listener net.Listener) error {
	defer context.AfterFunc(ctx, s.stop)()
	if err := s.grpc.Serve(listener); err != nil {
		return fmt.Errorf("serve the API on %s: %w", listener.Addr(), err)
	}
	return nil
}

func (s *Server) stop() {
	s.health.Shutdown()
	cut := time.AfterFunc(stopGrace, s.grpc.Stop)
	defer cut.Stop()
	s.grpc.GracefulStop()
}

// Listen makes the socket, which nobody but root and the group can open. A
// negative group leaves both as they are, for tests.
func Listen(socket string, group int) (net.Listener, error) {
	dir := filepath.Dir(socket)
	// The folders above it are other services' way to theirs.
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("make the API socket's folder: %w", err)
	}
	// The folder is closed to others before the socket is in it.
	if err := own(dir, 0o750, group); err != nil {
		return nil, err
	}
	if err := os.Remove(socket); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("remove the API socket of an earlier run: %w", err)
	}
	listener, err := net.Listen("unix", socket)
	if err != nil {
		return nil, fmt.Errorf("make the API socket: %w", err)
	}
	if err := own(socket, 0o660, group); err != nil {
		listener.Close()
		return nil, err
	}
	return listener, nil
}

func own(path string, mode fs.FileMode, group int) error {
	if group >= 0 {
		if err := os.Chown(path, 0, group); err != nil {
			return fmt.Errorf("give %s to its group: %w", path, err)
		}
	}
	if err := os.Chmod(path, mode); err != nil {
		return fmt.Errorf("close %s to others: %w", path, err)
	}
	return nil
}
