package etcd

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/keelson-os/keelson/machined/supervise"
	"github.com/keelson-os/keelson/pkg/machineconfig"
	"github.com/keelson-os/keelson/pkg/pki"
	"github.com/keelson-os/keelson/pkg/secretdir"
)

// Name is the service's name, its user's too.
const Name = "etcd"

// Ports that etcd is known by everywhere.
const (
	clientPort = 2379
	peerPort   = 2380
)

// Paths on a node.
const (
	program    = "/usr/bin/etcd"
	dataDir    = "/var/lib/etcd"
	secretsDir = "/run/keelson/secrets/etcd"
	// AdminSocket is where the member serves pkg/api/etcd.
	AdminSocket = "/run/keelson/etcd/admin.sock"
)

// aloneHeartbeat is etcd's own default. Shorter ones would wake an idle node
// more often for a few tenths of a second at its start.
const aloneHeartbeat = 100 * time.Millisecond

var (
	// ErrFormed refuses a bootstrap of a node that holds a cluster's data.
	ErrFormed = errors.New("bootstrap refused: this node holds etcd data, so the cluster was bootstrapped before")
	// ErrPending refuses a bootstrap while an earlier one is being done.
	ErrPending = errors.New("bootstrap refused: it was asked for before and is on its way; see osctl health")
)

// Options is what the member needs to know.
type Options struct {
	Hostname string
	NodeIP   netip.Addr
	Config   machineconfig.Etcd
	// Alone says that the cluster has no other control-plane node.
	Alone bool
	// ClusterID keeps members of other clusters out, should addresses be reused.
	ClusterID string
	// CA issues the certificates of members and clients.
	CA *pki.CA
	// LookupUser finds the service's user.
	LookupUser func(name string) (supervise.User, error)
	// AdminUser is the user whose group may open the admin socket.
	AdminUser string

	// Where things are; empty means where a node has them.
	Program, DataDir, SecretsDir, AdminSocket string
	// ClientPort and PeerPort; zero means etcd's own.
	ClientPort, PeerPort int
}

func (o Options) withDefaults() Options {
	setDefault(&o.Program, program)
	setDefault(&o.DataDir, dataDir)
	setDefault(&o.SecretsDir, secretsDir)
	setDefault(&o.AdminSocket, AdminSocket)
	setDefault(&o.ClientPort, clientPort)
	setDefault(&o.PeerPort, peerPort)
	return o
}

func setDefault[T comparable](value *T, fallback T) {
	var zero T
	if *value == zero {
		*value = fallback
	}
}

// Service is this node's etcd member.
type Service struct {
	options Options
	client  *http.Client

	mu        sync.Mutex    // held while the state on disk is changed
	requested chan struct{} // closed when a bootstrap was asked for
	answered  atomic.Bool   // the running process has been ready once
}

// New makes the service. It touches no disk.
func New(options Options) (*Service, error) {
	options = options.withDefaults()
	client, err := newClient(options.CA)
	if err != nil {
		return nil, err
	}
	return &Service{options: options, client: client, requested: make(chan struct{})}, nil
}

// Spec describes the service to the supervisor.
func (s *Service) Spec() supervise.Spec {
	return supervise.Spec{
		Name:        Name,
		Gate:        s.gate,
		GateMessage: "no etcd data yet: run osctl bootstrap on one control-plane node",
		Prepare:     s.prepare,
		Path:        s.options.Program,
		Args:        args(s.options),
		User:        Name,
		NoFile:      65536,
		// The cluster's memory: it goes last when memory is short.
		OOMScoreAdj: -997,
		Health: &supervise.HealthCheck{
			Probe:        s.probe,
			Interval:     10 * time.Second,
			Timeout:      10 * time.Second,
			Failures:     6,
			StartTimeout: 5 * time.Minute,
		},
		StopTimeout: 30 * time.Second,
	}
}

// Bootstrap makes this node the first member of a new cluster. It returns once
// that is certain to happen, also after a power cut; the service then starts.
// ErrFormed and ErrPending refuse it.
func (s *Service) Bootstrap(context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	now, err := read(s.options.DataDir)
	if err != nil {
		return err
	}
	switch now {
	case formed:
		return ErrFormed
	case pending:
		return ErrPending
	}
	owner, err := s.owner()
	if err != nil {
		return err
	}
	if err := markPending(s.options.DataDir, owner); err != nil {
		return err
	}
	select {
	case <-s.requested: // the data was removed since an earlier bootstrap
	default:
		close(s.requested)
	}
	return nil
}

// gate lets the service start when there is a cluster to serve or to make.
func (s *Service) gate(ctx context.Context) error {
	s.mu.Lock()
	now, err := read(s.options.DataDir)
	s.mu.Unlock()
	if err != nil || now != empty {
		return err
	}
	select {
	case <-s.requested:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// prepare renders the certificates, and clears the ground for a bootstrap that
// was not finished.
func (s *Service) prepare(context.Context) error {
	s.answered.Store(false)
	owner, err := s.owner()
	if err != nil {
		return err
	}
	files, err := certificates(s.options)
	if err != nil {
		return err
	}
	if err := secretdir.Write(s.options.SecretsDir, owner, files); err != nil {
		return err
	}
	group, err := s.options.LookupUser(s.options.AdminUser)
	if err != nil {
		return fmt.Errorf("find who may open etcd's admin socket: %w", err)
	}
	if err := makeAdminFolder(s.options.AdminSocket, owner, int(group.GID)); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := secretdir.Make(s.options.DataDir, owner); err != nil {
		return err
	}
	now, err := read(s.options.DataDir)
	if err != nil || now != pending {
		return err
	}
	return discardMember(s.options.DataDir)
}

func (s *Service) owner() (secretdir.Owner, error) {
	user, err := s.options.LookupUser(Name)
	if err != nil {
		return secretdir.Owner{}, fmt.Errorf("find the user of %s: %w", Name, err)
	}
	return secretdir.Owner{UID: int(user.UID), GID: int(user.GID)}, nil
}

// patience returns how long members wait for each other. A member that starts
// waits up to twice the election timeout before it stands for election, also
// when there is nobody to wait for: with the five seconds that suit several
// slow machines, up to five seconds of every boot. One that is alone stands at
// once, by the shortest times etcd takes (the timeout is five heartbeats).
func patience(o Options) machineconfig.Etcd {
	if o.Alone {
		return machineconfig.Etcd{HeartbeatInterval: aloneHeartbeat, ElectionTimeout: 5 * aloneHeartbeat}
	}
	return o.Config
}

// args are the flags of machined/etcd/server.
func args(o Options) []string {
	secret := func(name string) string { return filepath.Join(o.SecretsDir, name) }
	return []string{
		"--name=" + o.Hostname,
		"--data-dir=" + o.DataDir,
		"--bootstrap-if=" + filepath.Join(o.DataDir, pendingFile),
		"--cluster-token=" + o.ClusterID,
		"--listen-client-urls=" + urls(o.ClientPort, loopback, o.NodeIP),
		"--advertise-client-urls=" + urls(o.ClientPort, o.NodeIP),
		"--peer-url=" + urls(o.PeerPort, o.NodeIP),
		"--ca=" + secret(caFile),
		"--cert=" + secret(serverCert),
		"--key=" + secret(serverKey),
		"--peer-cert=" + secret(peerCert),
		"--peer-key=" + secret(peerKey),
		"--peer-name=" + peerName,
		"--heartbeat-interval=" + patience(o).HeartbeatInterval.String(),
		"--election-timeout=" + patience(o).ElectionTimeout.String(),
		"--admin-socket=" + o.AdminSocket,
	}
}
