package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/keelson-os/keelson/machined/etcd"
	"github.com/keelson-os/keelson/machined/supervise"
	"github.com/keelson-os/keelson/pkg/machineconfig"
	"github.com/keelson-os/keelson/pkg/pki"
	"go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

const (
	deadline = 30 * time.Second
	asServer = "KEELSON_TEST_AS_ETCD"
)

// TestMain lets the test binary stand in for the etcd program.
func TestMain(m *testing.M) {
	if os.Getenv(asServer) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

// node is one node's member: what machined knows of it, and the process.
type node struct {
	t       *testing.T
	ca      *pki.CA
	options etcd.Options
	service *etcd.Service
	process *exec.Cmd
	stderr  *strings.Builder
}

func newNode(t *testing.T) *node {
	t.Helper()
	ca, err := pki.NewCA("etcd", time.Now(), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	base := shortDir(t)
	config := machineconfig.Etcd{HeartbeatInterval: 50 * time.Millisecond, ElectionTimeout: 500 * time.Millisecond}
	n := &node{t: t, ca: ca, options: etcd.Options{
		Hostname: "node-1", NodeIP: netip.MustParseAddr("127.0.0.1"), ClusterID: "c0ffee", CA: ca, Config: config,
		LookupUser: func(string) (supervise.User, error) {
			return supervise.User{UID: uint32(os.Getuid()), GID: uint32(os.Getgid())}, nil
		},
		Program: os.Args[0], DataDir: filepath.Join(base, "data"), SecretsDir: filepath.Join(base, "secrets"), AdminSocket: filepath.Join(base, "admin", "sock"),
		ClientPort: freePort(t), PeerPort: freePort(t),
	}}
	n.reboot()
	return n
}

// shortDir is a folder of which the name leaves room for a unix socket's, which
// has at most 107 bytes.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "etcd")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// reboot makes what machined knows anew, from the disk alone.
func (n *node) reboot() {
	n.t.Helper()
	service, err := etcd.New(n.options)
	if err != nil {
		n.t.Fatal(err)
	}
	n.service = service
}

// start does what the supervisor does.
func (n *node) start() {
	n.t.Helper()
	spec := n.service.Spec()
	if err := spec.Prepare(n.t.Context()); err != nil {
		n.t.Fatal(err)
	}
	n.process = exec.Command(spec.Path, spec.Args...)
	n.process.Env = append(os.Environ(), asServer+"=1")
	n.stderr = &strings.Builder{}
	n.process.Stderr = n.stderr
	if err := n.process.Start(); err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(n.kill)
}

func (n *node) kill() {
	_ = n.process.Process.Kill()
	_ = n.process.Wait()
}

func (n *node) healthy() {
	n.t.Helper()
	n.eventually("etcd is healthy", func() error { return n.service.Spec().Health.Probe(n.t.Context()) })
}

func (n *node) eventually(what string, check func() error) {
	n.t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	timeout := time.After(deadline)
	for {
		err := check()
		if err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-timeout:
			n.kill()
			n.t.Fatalf("%s: not within %s: %v\n%s", what, deadline, err, n.stderr)
		}
	}
}

func (n *node) tls(certs ...tls.Certificate) *tls.Config {
	roots := x509.NewCertPool()
	roots.AddCert(n.ca.Certificate())
	return &tls.Config{RootCAs: roots, Certificates: certs}
}

func (n *node) clientCert() tls.Certificate {
	n.t.Helper()
	pair, err := n.ca.Issue(pki.Request{CommonName: "kube-apiserver", Client: true, TTL: time.Hour})
	if err != nil {
		n.t.Fatal(err)
	}
	cert, err := tls.X509KeyPair(pair.Cert, pair.Key)
	if err != nil {
		n.t.Fatal(err)
	}
	return cert
}

func (n *node) client() *clientv3.Client {
	n.t.Helper()
	client, err := clientv3.New(clientv3.Config{
		Endpoints: []string{fmt.Sprintf("https://127.0.0.1:%d", n.options.ClientPort)},
		TLS:       n.tls(n.clientCert()),
	})
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() { _ = client.Close() })
	return client
}

func freePort(t *testing.T) int {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().(*net.TCPAddr).Port
}

func TestBootstrapThenRestartsKeepTheData(t *testing.T) {
	n := newNode(t)
	if err := n.service.Bootstrap(t.Context()); err != nil {
		t.Fatal(err)
	}
	n.start()
	n.healthy()
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	defer cancel()
	if _, err := n.client().Put(ctx, "greeting", "hello"); err != nil {
		t.Fatal(err)
	}
	if err := n.service.Bootstrap(t.Context()); err == nil {
		t.Error("a second bootstrap was accepted")
	}
	n.kill() // without a chance to tidy up

	n.reboot()
	if err := n.service.Spec().Gate(ctx); err != nil {
		t.Fatal(err)
	}
	n.start()
	n.healthy()
	got, err := n.client().Get(ctx, "greeting")
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Kvs) != 1 || string(got.Kvs[0].Value) != "hello" {
		t.Errorf("after a restart the key holds %v, want hello", got.Kvs)
	}
	if err := n.service.Check(ctx); err != nil {
		t.Errorf("check: %v", err)
	}
	full := &etcdserverpb.AlarmRequest{Action: etcdserverpb.AlarmRequest_ACTIVATE, Alarm: etcdserverpb.AlarmType_NOSPACE}
	if _, err := etcdserverpb.NewMaintenanceClient(n.client().ActiveConnection()).Alarm(ctx, full); err != nil {
		t.Fatal(err)
	}
	if err := n.service.Check(ctx); err == nil || !strings.Contains(err.Error(), "NOSPACE") {
		t.Errorf("check of a full database: %v, want its alarm", err)
	}

	if err := n.process.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if err := n.process.Wait(); err != nil {
		t.Errorf("asked to stop, etcd ended with %v\n%s", err, n.stderr)
	}
}

// A bootstrap that is cut off after etcd made its log, but before it answered,
// is done once more from the start.
func TestBootstrapSurvivesACrashBeforeTheFirstAnswer(t *testing.T) {
	n := newNode(t)
	if err := n.service.Bootstrap(t.Context()); err != nil {
		t.Fatal(err)
	}
	n.start()
	n.eventually("etcd makes its log", func() error {
		logs, _ := filepath.Glob(filepath.Join(n.options.DataDir, "member", "wal", "*.wal"))
		if len(logs) == 0 {
			return fmt.Errorf("no log yet")
		}
		return nil
	})
	n.kill()

	n.reboot()
	n.start()
	n.healthy()
}

func TestNoClusterWithoutABootstrap(t *testing.T) {
	n := newNode(t)
	n.start()
	if err := n.process.Wait(); err == nil || !strings.Contains(n.stderr.String(), "no bootstrap asked for") {
		t.Errorf("an etcd with no data and no bootstrap ended with %v and said %q", err, n.stderr)
	}
}

func TestConnectionsNeedTheRightCertificate(t *testing.T) {
	n := newNode(t)
	if err := n.service.Bootstrap(t.Context()); err != nil {
		t.Fatal(err)
	}
	n.start()
	n.healthy()
	get := func(port int, path string, config *tls.Config) error {
		transport := &http.Transport{TLSClientConfig: config}
		defer transport.CloseIdleConnections()
		response, err := (&http.Client{Transport: transport, Timeout: deadline}).Get(fmt.Sprintf("https://127.0.0.1:%d%s", port, path))
		if err != nil {
			return err
		}
		defer response.Body.Close()
		if response.StatusCode != http.StatusOK {
			return fmt.Errorf("%s", response.Status)
		}
		return nil
	}
	if err := get(n.options.ClientPort, "/version", n.tls(n.clientCert())); err != nil {
		t.Fatalf("a client with its certificate: %v", err)
	}
	// What members themselves are let in with, or the refusals below say nothing.
	secret := func(name string) string { return filepath.Join(n.options.SecretsDir, name) }
	member, err := tls.LoadX509KeyPair(secret("peer.crt"), secret("peer.key"))
	if err != nil {
		t.Fatal(err)
	}
	if err := get(n.options.PeerPort, "/members", n.tls(member)); err != nil {
		t.Fatalf("a member with its certificate: %v", err)
	}
	other := newNode(t)
	old := n.tls(n.clientCert())
	old.MaxVersion = tls.VersionTLS12
	for name, c := range map[string]struct {
		port   int
		path   string
		config *tls.Config
	}{
		"no certificate":                      {n.options.ClientPort, "/version", n.tls()},
		"another CA's":                        {n.options.ClientPort, "/version", n.tls(other.clientCert())},
		"TLS 1.2":                             {n.options.ClientPort, "/version", old},
		"no certificate, as a member":         {n.options.PeerPort, "/members", n.tls()},
		"a client's certificate, as a member": {n.options.PeerPort, "/members", n.tls(n.clientCert())},
	} {
		if err := get(c.port, c.path, c.config); err == nil {
			t.Errorf("%s: let in", name)
		}
	}
}
