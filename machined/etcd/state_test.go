package etcd

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/keelson-os/keelson/machined/supervise"
	"github.com/keelson-os/keelson/pkg/machineconfig"
	"github.com/keelson-os/keelson/pkg/pki"
)

func TestDecide(t *testing.T) {
	for _, c := range []struct {
		log, pending, removed bool
		want                  state
	}{
		{false, false, false, empty},
		{false, true, false, pending},
		{true, false, false, formed},
		{true, true, false, pending}, // a power cut before the first answer
		{true, false, true, removed},
		{false, false, true, removed},
	} {
		if got := decide(c.log, c.pending, c.removed); got != c.want {
			t.Errorf("log %t, pending %t, removed %t: state %d, want %d", c.log, c.pending, c.removed, got, c.want)
		}
	}
}

func newService(t *testing.T) *Service {
	t.Helper()
	ca, err := pki.NewCA("etcd", time.Now(), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	base := t.TempDir()
	service, err := New(Options{
		Hostname: "node-1", NodeIP: netip.MustParseAddr("10.0.0.5"), ClusterID: "c0ffee", CA: ca,
		Config: machineconfig.Default().Cluster.Etcd,
		LookupUser: func(string) (supervise.User, error) {
			return supervise.User{UID: uint32(os.Getuid()), GID: uint32(os.Getgid())}, nil
		},
		DataDir: filepath.Join(base, "data"), SnapshotsDir: filepath.Join(base, "snapshots"), SecretsDir: filepath.Join(base, "secrets"), AdminSocket: filepath.Join(base, "admin", "admin.sock"),
	})
	if err != nil {
		t.Fatal(err)
	}
	return service
}

func TestGateOpensByBootstrapOnly(t *testing.T) {
	s := newService(t)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.gate(ended); !errors.Is(err, context.Canceled) {
		t.Fatalf("the gate of an empty node answered %v, want to be waiting until canceled", err)
	}
	opened := make(chan error, 1)
	go func() { opened <- s.gate(t.Context()) }()
	if err := s.Bootstrap(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-opened; err != nil {
		t.Errorf("the gate answered %v after the bootstrap", err)
	}
	// The request survives a power cut: a new process finds it on disk.
	again := newService(t)
	again.options.DataDir = s.options.DataDir
	if err := again.gate(ended); err != nil {
		t.Errorf("after a restart the gate answered %v, want open", err)
	}
}

func TestSecondBootstrapIsRefused(t *testing.T) {
	s := newService(t)
	if err := s.Bootstrap(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := s.Bootstrap(t.Context()); !errors.Is(err, ErrPending) {
		t.Errorf("while the first is on its way: %v, want ErrPending", err)
	}
	writeLog(t, s)
	if err := clearPending(s.options.DataDir); err != nil {
		t.Fatal(err)
	}
	if err := s.Bootstrap(t.Context()); !errors.Is(err, ErrFormed) {
		t.Errorf("with data: %v, want ErrFormed", err)
	}
}

func TestPrepareKeepsDataUnlessTheBootstrapWasUnfinished(t *testing.T) {
	s := newService(t)
	if err := s.Bootstrap(t.Context()); err != nil {
		t.Fatal(err)
	}
	file := writeLog(t, s)
	if err := s.prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(file); !os.IsNotExist(err) {
		t.Errorf("what an unfinished bootstrap left is still there (%v)", err)
	}
	file = writeLog(t, s)
	if err := clearPending(s.options.DataDir); err != nil {
		t.Fatal(err)
	}
	if err := s.prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(file); err != nil {
		t.Errorf("data was lost: %v", err)
	}
}

func writeLog(t *testing.T, s *Service) string {
	t.Helper()
	file := filepath.Join(s.options.DataDir, memberDir, "wal", "0.wal")
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte("log"), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestPatience(t *testing.T) {
	config := machineconfig.Default().Cluster.Etcd
	if got := patience(Options{Config: config}); got != config {
		t.Errorf("with others: %+v, want the config's", got)
	}
	if got := patience(Options{Config: config, Alone: true}); got.ElectionTimeout >= time.Second || got.ElectionTimeout < 5*got.HeartbeatInterval {
		t.Errorf("alone: %+v, want an election in less than a second that etcd accepts", got)
	}
}

func TestArgs(t *testing.T) {
	s := newService(t)
	s.options.DataDir, s.options.SecretsDir, s.options.AdminSocket = dataDir, secretsDir, AdminSocket
	s.options.SnapshotsDir = snapshotsDir
	want := []string{
		"--name=node-1",
		"--data-dir=/var/lib/etcd",
		"--bootstrap-if=/var/lib/etcd/bootstrap-pending",
		"--join-from=/run/keelson/secrets/etcd/join",
		"--joining=/var/lib/etcd/join-pending",
		"--removed=/var/lib/etcd/removed",
		"--server-name=c0ffee.etcd.keelson",
		"--cluster-token=c0ffee",
		"--listen-client-urls=https://127.0.0.1:2379,https://10.0.0.5:2379",
		"--advertise-client-urls=https://10.0.0.5:2379",
		"--peer-url=https://10.0.0.5:2380",
		"--ca=/run/keelson/secrets/etcd/ca.crt",
		"--cert=/run/keelson/secrets/etcd/server.crt",
		"--key=/run/keelson/secrets/etcd/server.key",
		"--peer-cert=/run/keelson/secrets/etcd/peer.crt",
		"--peer-key=/run/keelson/secrets/etcd/peer.key",
		"--peer-name=etcd-peer",
		"--heartbeat-interval=500ms",
		"--election-timeout=5s",
		"--admin-socket=/run/keelson/etcd/admin.sock",
		"--snapshot-dir=/var/lib/etcd-snapshots",
		"--snapshot-interval=6h0m0s",
		"--snapshot-keep=8",
		"--snapshot-max-age=168h0m0s",
	}
	if got := s.Spec().Args; !slices.Equal(got, want) {
		t.Errorf("got\n%q\nwant\n%q", got, want)
	}
}
