package api

import (
	"context"
	"crypto/rand"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"time"

	"github.com/keelson-os/keelson/machined/supervise"
	"github.com/keelson-os/keelson/pkg/identity"
	"github.com/keelson-os/keelson/pkg/pki"
	"github.com/keelson-os/keelson/pkg/secretdir"
)

// Front is the name of the service that serves the API to the network, and of
// its user.
const Front = "apid"

// FrontPort is where apid listens, on every address. On JoinPort it lets other
// nodes join, on control-plane nodes only.
const (
	FrontPort = 50000
	JoinPort  = 50001
)

// Files of apid's secrets folder.
const (
	frontCA    = "ca.crt"
	serverCert = "server.crt"
	serverKey  = "server.key"
	// By these a control-plane node's apid shows that it calls for someone else.
	forwardCert = "forward.crt"
	forwardKey  = "forward.key"
)

const (
	frontProgram = "/usr/bin/apid"
	frontSecrets = "/run/keelson/secrets/apid"
	// frontMemory is far above what apid needs, and keeps the one service that
	// faces the network from taking the node's memory.
	frontMemory = 256 << 20
)

// FrontOptions say who apid is.
type FrontOptions struct {
	User supervise.User
	// CA issues its certificates and is what clients' certificates must be of. A
	// worker has Pair and CACert in its place.
	CA *pki.CA
	// Names and Addresses are what clients may call the node; on a worker the
	// certificate says so already.
	Names     []string
	Addresses []netip.Addr
	// Hostname is the node's name, under which a control-plane node passes calls
	// on, and ControlPlanes is where the config says that others like it are.
	Hostname      string
	ControlPlanes []netip.Addr

	// Pair is the certificate that a control-plane node signed for this one,
	// asked for whenever it is written.
	Pair func() (pki.KeyPair, error)
	// CACert is the certificate (PEM) of the authority.
	CACert []byte
}

// FrontSpec describes apid to the supervisor. On a control-plane node it also
// lets others join, passes calls on to other nodes and reaches Kubernetes.
func FrontSpec(opts FrontOptions) supervise.Spec {
	args := []string{"--ca=" + frontFile(frontCA)}
	if opts.CA != nil {
		args = append(args,
			"--kubeconfig="+frontFile("kubeconfig"), fmt.Sprintf("--join-listen=:%d", JoinPort),
			"--forward-cert="+frontFile(forwardCert), "--forward-key="+frontFile(forwardKey),
		)
		for _, address := range opts.ControlPlanes {
			args = append(args, "--control-plane="+address.String())
		}
	}
	spec := frontSpec(args...)
	spec.Prepare = func(context.Context) error { return opts.Write() }
	return spec
}

// Write gives apid its keys and certificates. One that runs takes them from its
// files with the next connection.
func (opts FrontOptions) Write() error {
	files, err := opts.files()
	if err != nil {
		return err
	}
	return writeFront(opts.User, files)
}

func (opts FrontOptions) files() (map[string][]byte, error) {
	if opts.CA == nil {
		pair, err := opts.Pair()
		if err != nil {
			return nil, err
		}
		return map[string][]byte{frontCA: opts.CACert, serverCert: pair.Cert, serverKey: pair.Key}, nil
	}
	server, err := opts.CA.Issue(pki.Request{
		CommonName: Front, Server: true, TTL: pki.NodeTTL,
		DNSNames: append([]string{"localhost"}, opts.Names...),
		IPs:      append([]netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.IPv6Loopback()}, opts.Addresses...),
	})
	if err != nil {
		return nil, err
	}
	forward, err := opts.CA.Issue(pki.Request{
		CommonName: opts.Hostname, Organizations: []string{identity.Forwarder}, Client: true, TTL: pki.NodeTTL,
	})
	if err != nil {
		return nil, err
	}
	return map[string][]byte{
		frontCA: opts.CA.KeyPair().Cert, serverCert: server.Cert, serverKey: server.Key,
		forwardCert: forward.Cert, forwardKey: forward.Key,
	}, nil
}

// Maintenance is what proves a node without a config and its user to each
// other. It stands on the console.
type Maintenance struct {
	// Fingerprint is the SHA-256 of the certificate, in hex.
	Fingerprint string
	PairingCode string

	pair pki.KeyPair
}

// NewMaintenance makes a certificate and a code for this boot.
func NewMaintenance() (*Maintenance, error) {
	// An authority of its own that is forgotten at once: clients know the
	// certificate by its fingerprint.
	ca, err := pki.NewCA("keelson maintenance", time.Now(), pki.NodeTTL)
	if err != nil {
		return nil, err
	}
	pair, err := ca.Issue(pki.Request{CommonName: "keelson maintenance", Server: true, TTL: pki.NodeTTL})
	if err != nil {
		return nil, err
	}
	cert, err := pki.ParseCert(pair.Cert)
	if err != nil {
		return nil, err
	}
	return &Maintenance{Fingerprint: pki.Fingerprint(cert.Raw), PairingCode: newPairingCode(), pair: pair}, nil
}

// newPairingCode makes a code of 40 random bits that is easy to read from a
// screen: with six tries a minute it is guessed in some 170,000 years.
func newPairingCode() string {
	const digits = "abcdefghijkmnpqrstuvwxyz23456789" // 32, without l, o, 0, 1
	random := make([]byte, 8)
	_, _ = rand.Read(random) // never fails: crypto/rand
	for i := range random {
		random[i] = digits[random[i]%32]
	}
	return string(random[:4]) + "-" + string(random[4:])
}

// MaintenanceSpec describes apid on a node without a config.
func MaintenanceSpec(user supervise.User, m *Maintenance) supervise.Spec {
	spec := frontSpec("--maintenance", "--pairing-code-file="+frontFile("pairing-code"))
	spec.Prepare = func(context.Context) error {
		return writeFront(user, map[string][]byte{
			serverCert: m.pair.Cert, serverKey: m.pair.Key, "pairing-code": []byte(m.PairingCode + "\n"),
		})
	}
	return spec
}

// frontSpec is what both modes share.
func frontSpec(args ...string) supervise.Spec {
	return supervise.Spec{
		Name: Front, User: Front, Path: frontProgram, Essential: true, MemoryMax: frontMemory, NoFile: 4096,
		Args: append([]string{
			fmt.Sprintf("--listen=:%d", FrontPort), "--machined=" + Socket,
			"--cert=" + frontFile(serverCert), "--key=" + frontFile(serverKey),
		}, args...),
		Health: &supervise.HealthCheck{Probe: probeFront, StartTimeout: time.Minute},
	}
}

func frontFile(name string) string { return filepath.Join(frontSecrets, name) }

func writeFront(user supervise.User, files map[string][]byte) error {
	return secretdir.Write(frontSecrets, secretdir.Owner{UID: int(user.UID), GID: int(user.GID)}, files)
}

// probeFront asks whether apid takes connections. It says nothing on them,
// which apid does not log as a refused client.
func probeFront(ctx context.Context) error {
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "tcp", fmt.Sprintf("127.0.0.1:%d", FrontPort))
	if err != nil {
		return fmt.Errorf("ask apid for an answer: %w", err)
	}
	return conn.Close()
}
