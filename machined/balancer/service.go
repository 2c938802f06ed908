package balancer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/keelson-os/keelson/machined/supervise"
	"github.com/keelson-os/keelson/pkg/machineconfig"
	"github.com/keelson-os/keelson/pkg/secretdir"
)

// Name is the service's name, its user's too.
const Name = "balancer"

// Address is where the API server is reached on every node.
const Address = "127.0.0.1:7445"

// apiPort is where API servers listen.
const apiPort = 6443

// Paths on a node.
const (
	program    = "/usr/bin/balancer"
	secretsDir = "/run/keelson/secrets/balancer"
)

// Files of the service's folder.
const (
	caFile        = "ca.crt"
	upstreamsFile = "upstreams.json"
)

// memoryMax is several times what the service needs with as many connections
// as it takes, what the kernel holds for their sockets included.
const memoryMax = 256 << 20

// Options is what the service needs to know.
type Options struct {
	// ControlPlanes are the control-plane nodes of the config. They are upstreams
	// for ever: when all that the cluster told are gone, they are what is left.
	ControlPlanes []machineconfig.Host
	// Local is this node's own address if it is a control-plane node, else
	// invalid. Its API server is preferred while it is ready.
	Local netip.Addr
	// CA is the certificate (PEM) that the API servers' are of.
	CA []byte
	// Keep is the file that remembers, over reboots, what SetUpstreams was given;
	// empty means that nothing does.
	Keep string
	// LookupUser finds the service's user.
	LookupUser func(name string) (supervise.User, error)
	Log        *slog.Logger

	// Where things are; empty means where a node has them.
	Program, Dir, Listen string
}

// Service is the balancer of this node.
type Service struct {
	options Options

	mu    sync.Mutex
	known []netip.AddrPort // given by SetUpstreams last, or kept from then
	kept  []netip.AddrPort // in the file
}

// New makes the service. It reads the file that Options.Keep names; one that
// cannot be used is told to the log, and the config's addresses have to do.
func New(options Options) *Service {
	setDefault(&options.Program, program)
	setDefault(&options.Dir, secretsDir)
	setDefault(&options.Listen, Address)
	s := &Service{options: options}
	if options.Keep == "" {
		return s
	}
	known, err := Load(options.Keep)
	if err != nil {
		options.Log.Warn("the control-plane nodes known before are lost; the config's are asked", "error", err)
	}
	s.known, s.kept = known, known
	return s
}

func setDefault(value *string, fallback string) {
	if *value == "" {
		*value = fallback
	}
}

// Spec describes the service to the supervisor.
func (s *Service) Spec() supervise.Spec {
	args := []string{
		"--listen=" + s.options.Listen,
		"--upstreams=" + filepath.Join(s.options.Dir, upstreamsFile),
		"--ca=" + filepath.Join(s.options.Dir, caFile),
	}
	if s.options.Local.IsValid() {
		args = append(args, "--prefer="+netip.AddrPortFrom(s.options.Local, apiPort).String())
	}
	return supervise.Spec{
		Name:      Name,
		Prepare:   s.prepare,
		Path:      s.options.Program,
		Args:      args,
		User:      Name,
		NoFile:    16384,
		MemoryMax: memoryMax,
		// Without it the node loses the cluster.
		OOMScoreAdj: -998,
		Health: &supervise.HealthCheck{
			Probe:        s.probe,
			Interval:     30 * time.Second,
			StartTimeout: time.Minute,
		},
		StopTimeout: 5 * time.Second,
	}
}

// prepare renders what the service reads.
func (s *Service) prepare(context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.write(map[string][]byte{caFile: s.options.CA})
}

// SetUpstreams tells where the API servers are now. The running service follows
// at once: connections to those that are gone last as long as their servers. No
// address at all changes nothing, as the last API server takes its own away
// when it stops.
func (s *Service) SetUpstreams(addresses []netip.AddrPort) error {
	list, err := normal(addresses)
	if err != nil || len(list) == 0 {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !slices.Equal(list, s.known) {
		before := s.known
		s.known = list
		if err := s.write(nil); err != nil {
			s.known = before // so that the next call tries again
			return err
		}
	}
	if s.options.Keep == "" || slices.Equal(list, s.kept) {
		return nil
	}
	if err := save(s.options.Keep, list); err != nil {
		return err
	}
	s.kept = list
	return nil
}

// Upstreams are the addresses, HOST:PORT, that connections may go to.
func (s *Service) Upstreams() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return upstreams(s.known, s.options.ControlPlanes)
}

// write replaces the upstreams' file, and puts others beside it.
func (s *Service) write(others map[string][]byte) error {
	user, err := s.options.LookupUser(Name)
	if err != nil {
		return fmt.Errorf("find the user of %s: %w", Name, err)
	}
	list, err := json.Marshal(upstreams(s.known, s.options.ControlPlanes))
	if err != nil {
		return fmt.Errorf("encode the upstreams: %w", err)
	}
	files := map[string][]byte{upstreamsFile: list}
	for name, content := range others {
		files[name] = content
	}
	return secretdir.Write(s.options.Dir, secretdir.Owner{UID: int(user.UID), GID: int(user.GID)}, files)
}

// upstreams puts what the cluster told before what the config says.
func upstreams(known []netip.AddrPort, hosts []machineconfig.Host) []string {
	seen := map[string]bool{}
	list := []string{} // not nil: the file holds a list, be it empty
	add := func(address string) {
		if !seen[address] && len(list) < maxUpstreams {
			seen[address] = true
			list = append(list, address)
		}
	}
	for _, address := range known {
		add(address.String())
	}
	for _, host := range hosts {
		add(net.JoinHostPort(string(host), strconv.Itoa(apiPort)))
	}
	return list
}

// probe connects and hangs up. A service that works hangs up too; that the
// kernel took the connection says nothing.
func (s *Service) probe(ctx context.Context) error {
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "tcp", s.options.Listen)
	if err != nil {
		return fmt.Errorf("ask the balancer for an answer: %w", err)
	}
	defer conn.Close()
	if end, ok := ctx.Deadline(); ok {
		if err := conn.SetDeadline(end); err != nil {
			return fmt.Errorf("ask the balancer for an answer: %w", err)
		}
	}
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
		return fmt.Errorf("ask the balancer for an answer: %w", err)
	}
	if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		return fmt.Errorf("the balancer takes connections and does not serve them: %w", err)
	}
	return nil
}
