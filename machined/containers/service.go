package containers

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	versionapi "github.com/containerd/containerd/api/services/version/v1"
	"github.com/keelson-os/keelson/machined/supervise"
	"github.com/keelson-os/keelson/pkg/machineconfig"
	"github.com/keelson-os/keelson/pkg/secretdir"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/emptypb"
)

// Name is the service's name.
const Name = "containerd"

// Paths on a node.
const (
	program    = "/usr/bin/containerd"
	configDir  = "/run/keelson/config/containerd"
	configFile = "config.toml"
	// The image has links to these two where add-ons expect them:
	// /etc/cni/net.d and /opt/cni/bin.
	cniDir       = "/run/keelson/cni"
	addOnPlugins = "/var/lib/cni/bin"
	ownPlugins   = "/usr/libexec/cni"
	socket       = "/run/containerd/containerd.sock"
	dataDir      = "/var/lib/containerd"
	pauseArchive = "/usr/share/keelson/pause.tar"
)

// Options is what the service needs to know.
type Options struct {
	// CNIUser writes the CNI configuration: the pod network's service. Empty: an
	// add-on does, from a container, and installs plugins of its own.
	CNIUser string
	// LookupUser finds it.
	LookupUser func(name string) (supervise.User, error)
	// Registries is where images are pulled from, and how.
	Registries machineconfig.Registries

	// Where things are; empty means where a node has them.
	ConfigDir, CNIDir, PluginDir, Socket, DataDir, PauseArchive string
}

func (o Options) withDefaults() Options {
	for _, each := range []struct {
		value    *string
		fallback string
	}{
		{&o.ConfigDir, configDir},
		{&o.CNIDir, cniDir},
		{&o.PluginDir, addOnPlugins},
		{&o.Socket, socket},
		{&o.DataDir, dataDir},
		{&o.PauseArchive, pauseArchive},
	} {
		if *each.value == "" {
			*each.value = each.fallback
		}
	}
	return o
}

// Service is containerd on this node.
type Service struct {
	options Options
	conn    *grpc.ClientConn
	// importing holds one token while an archive is being imported.
	importing chan struct{}

	mu       sync.Mutex
	hasPause bool // since containerd's start
}

// New makes the service. It connects when it is first used.
func New(options Options) (*Service, error) {
	options = options.withDefaults()
	conn, err := dial(options.Socket)
	if err != nil {
		return nil, err
	}
	return &Service{options: options, conn: conn, importing: make(chan struct{}, 1)}, nil
}

// Close drops the connection to containerd.
func (s *Service) Close() error { return s.conn.Close() }

// Spec describes the service to the supervisor.
func (s *Service) Spec() supervise.Spec {
	return supervise.Spec{
		Name:            Name,
		Prepare:         s.prepare,
		Path:            program,
		Args:            []string{"--config", filepath.Join(s.options.ConfigDir, configFile)},
		AllCapabilities: true,
		AllowNewPrivs:   true, // containers may hold setuid programs
		Delegate:        true,
		NoFile:          1 << 20,
		// Containers outlive it, but without it none can be stopped.
		OOMScoreAdj: -999,
		Health: &supervise.HealthCheck{
			Probe: s.probe,
			// A probe may import the pause image, seconds on a slow machine.
			Timeout:  time.Minute,
			Interval: 15 * time.Second,
		},
		StopTimeout: 20 * time.Second,
	}
}

// prepare renders the configuration and makes the folders of the pod network.
func (s *Service) prepare(context.Context) error {
	s.mu.Lock()
	s.hasPause = false
	s.mu.Unlock()
	text, err := s.config()
	if err != nil {
		return err
	}
	root := secretdir.Owner{UID: os.Getuid(), GID: os.Getgid()}
	if err := secretdir.Write(s.options.ConfigDir, root, map[string][]byte{configFile: text}); err != nil {
		return err
	}
	for folder, files := range registryFiles(s.options.ConfigDir, &s.options.Registries) {
		if err := secretdir.Write(filepath.Join(s.options.ConfigDir, folder), root, files); err != nil {
			return err
		}
	}
	if s.options.CNIUser == "" {
		if err := os.MkdirAll(s.options.PluginDir, 0o755); err != nil {
			return fmt.Errorf("make the folder of the pod network's plugins: %w", err)
		}
		return secretdir.Make(s.options.CNIDir, root)
	}
	user, err := s.options.LookupUser(s.options.CNIUser)
	if err != nil {
		return fmt.Errorf("find the user of the CNI folder: %w", err)
	}
	// containerd would make it itself, but for root alone.
	return secretdir.Make(s.options.CNIDir, secretdir.Owner{UID: int(user.UID), GID: int(user.GID)})
}

// pluginDirs are where containerd looks for CNI plugins. Only an add-on is
// trusted to bring programs that the image does not have; it may expect its own
// version of one that the image has, too.
func (s *Service) pluginDirs() []string {
	if s.options.CNIUser == "" {
		return []string{s.options.PluginDir, ownPlugins}
	}
	return []string{ownPlugins}
}

// probe is healthy once containerd answers and holds the pause image, so that
// kubelet, which depends on it, never finds it missing.
func (s *Service) probe(ctx context.Context) error {
	if _, err := versionapi.NewVersionClient(s.conn).Version(ctx, &emptypb.Empty{}); err != nil {
		return fmt.Errorf("ask containerd for its version: %w", err)
	}
	return s.EnsurePause(ctx)
}

// EnsurePause imports the pause image from the OS image unless containerd has
// it.
func (s *Service) EnsurePause(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.hasPause {
		return nil
	}
	records, err := s.records(ctx)
	if err != nil {
		return err
	}
	if find(records, PauseImage) == nil {
		archive, err := os.Open(s.options.PauseArchive)
		if err != nil {
			return fmt.Errorf("open the pause image's archive: %w", err)
		}
		defer archive.Close()
		if _, err := s.importArchive(ctx, archive, importOptions{pin: true}); err != nil {
			return fmt.Errorf("import the pause image: %w", err)
		}
	}
	s.hasPause = true
	return nil
}
