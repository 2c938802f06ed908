package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
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
	// For every child: also the one that checks a snapshot, which machined starts.
	if err := os.Setenv(asServer, "1"); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
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
	n.raise(t)
	if err := n.service.Check(ctx); err == nil || !strings.Contains(err.Error(), "NOSPACE") {
		t.Errorf("check of a full database: %v, want its alarm", err)
	}

	if err := n.process.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	<-n.ended
	if !n.process.ProcessState.Success() {
		t.Errorf("asked to stop, etcd ended with %v\n%s", n.process.ProcessState, n.stderr)
	}
}

// raise raises the alarm of a full database.
func (n *node) raise(t *testing.T) {
	t.Helper()
	client := n.client()
	self, err := client.Status(t.Context(), client.Endpoints()[0])
	if err != nil {
		t.Fatal(err)
	}
	full := &etcdserverpb.AlarmRequest{
		Action: etcdserverpb.AlarmRequest_ACTIVATE, MemberID: self.Header.MemberId, Alarm: etcdserverpb.AlarmType_NOSPACE,
	}
	if _, err := etcdserverpb.NewMaintenanceClient(client.ActiveConnection()).Alarm(t.Context(), full); err != nil {
		t.Fatal(err)
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
	n.eventually("etcd makes its log", n.hasLog)
	n.kill()

	n.reboot()
	n.start()
	n.healthy()
}

func TestNoClusterWithoutABootstrap(t *testing.T) {
	n := newNode(t)
	n.start()
	n.exits("no bootstrap asked for")
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
