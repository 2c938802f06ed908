package etcd

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"path/filepath"
	"strings"
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
	// snapshotsDir lies beside the data: what removes one keeps the other.
	snapshotsDir = "/var/lib/etcd-snapshots"
	// AdminSocket is where the member serves pkg/api/etcd.
	AdminSocket = "/run/keelson/etcd/admin.sock"
)

// aloneHeartbeat is etcd's own default. Shorter ones would wake an idle node
// more often for a few tenths of a second at its start.
const aloneHeartbeat = 100 * time.Millisecond

// cpuWeight is ten times that of other services.
const cpuWeight = 1000

// startTime is how long a member may take until it votes, before it is started
// again: longer than the leader waits for one that is catching up. One that
// waits for a quorum is started again, too, which costs little.
const startTime = 20 * time.Minute

// Options is what the member needs to know.
type Options struct {
	Hostname string
	NodeIP   netip.Addr
	Config   machineconfig.Etcd
	// Peers returns where the other control-plane nodes are: IP addresses or DNS
	// names, with a port if it is not etcd's own. This node's own is left out.
	Peers func() []string
	// Alone says that the cluster has no other control-plane node.
	Alone bool
	// ClusterID keeps members of other clusters out, should addresses be reused.
	ClusterID string
	// CA issues the certificates of members and clients.
	CA *pki.CA
	// LookupUser finds the service's user.
	LookupUser func(name string) (supervise.User, error)
	// StoreKeys are those to the store that snapshots are sent to.
	StoreKeys machineconfig.S3Keys
	// Log hears what the member waits for; it may be nil.
	Log *slog.Logger
	// AdminUser is the user whose group may open the admin socket.
	AdminUser string

	// Where things are; empty means where a node has them.
	Program, DataDir, SnapshotsDir, SecretsDir, AdminSocket string
	// ClientPort and PeerPort; zero means etcd's own.
	ClientPort, PeerPort int
}

func (o Options) withDefaults() Options {
	setDefault(&o.Program, program)
	setDefault(&o.DataDir, dataDir)
	setDefault(&o.SnapshotsDir, snapshotsDir)
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
	client  *http.Client // of this node's member
	others  *http.Client // of other nodes' members

	mu         sync.Mutex    // held while the state on disk is changed
	recovering sync.Mutex    // held while a snapshot comes in
	requested  chan struct{} // closed when a bootstrap was asked for
	answered   atomic.Bool   // the running process has been ready once
	waiting    atomic.Pointer[string]
}

// New makes the service. It touches no disk.
func New(options Options) (*Service, error) {
	options = options.withDefaults()
	credentials, err := credentials(options.CA)
	if err != nil {
		return nil, err
	}
	s := &Service{
		options: options, client: newClient(credentials, ""), others: newClient(credentials, serverName(options.ClusterID)),
		requested: make(chan struct{}),
	}
	s.waits(context.Background(), "")
	return s, nil
}

// Spec describes the service to the supervisor.
func (s *Service) Spec() supervise.Spec {
	return supervise.Spec{
		Name:        Name,
		Gate:        s.gate,
		GateMessage: gateMessage,
		Prepare:     s.prepare,
		Path:        s.options.Program,
		Args:        args(s.options),
		User:        Name,
		NoFile:      65536,
		// Every write of the cluster waits for its members: one that must queue
		// behind a busy neighbour slows all nodes down.
		CPUWeight: cpuWeight,
		// The cluster's memory: it goes last when memory is short.
		OOMScoreAdj: -997,
		Health: &supervise.HealthCheck{
			Probe:        s.probe,
			Interval:     10 * time.Second,
			Timeout:      10 * time.Second,
			Failures:     6,
			StartTimeout: startTime,
		},
		StopTimeout: 30 * time.Second,
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
	// Whom to join, should there be no data. The supervisor fixes arguments
	// once; what the config says may change.
	files[joinFile] = []byte(strings.Join(s.options.others(), "\n"))
	if s.options.Config.Snapshots.S3.Endpoint != "" {
		if files[storeFile], err = storeConfig(s.options); err != nil {
			return err
		}
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
	if err := secretdir.Make(s.options.SnapshotsDir, owner); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := secretdir.Make(s.options.DataDir, owner); err != nil {
		return err
	}
	now, err := read(s.options.DataDir)
	switch {
	case err != nil:
		return err
	case now == pending:
		return discard(s.options.DataDir, memberDir, incomingFile)
	default:
		return discard(s.options.DataDir, recoverFile, incomingFile)
	}
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
	return append([]string{
		"--name=" + o.Hostname,
		"--data-dir=" + o.DataDir,
		"--bootstrap-if=" + filepath.Join(o.DataDir, pendingMark),
		"--join-from=" + secret(joinFile),
		"--joining=" + filepath.Join(o.DataDir, joiningMark),
		"--removed=" + filepath.Join(o.DataDir, removedMark),
		"--server-name=" + serverName(o.ClusterID),
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
	}, snapshotArgs(o)...)
}
