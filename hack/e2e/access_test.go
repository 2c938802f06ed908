package e2e

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/keelson-os/keelson/pkg/api/machine"
	"github.com/keelson-os/keelson/pkg/client"
	"github.com/keelson-os/keelson/pkg/machineconfig"
	"github.com/keelson-os/keelson/pkg/pki"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"
)

// current returns the context that osctl uses.
func current(t *testing.T) *client.Context {
	t.Helper()
	config, err := client.LoadConfig(os.Getenv("OSCTL_CONFIG"))
	if err != nil {
		t.Fatal(err)
	}
	context, err := config.Get("")
	if err != nil {
		t.Fatal(err)
	}
	return context
}

// dial connects to the node as osctl does.
func dial(t *testing.T) *client.Client {
	t.Helper()
	c := current(t)
	conn, err := client.Dial(t.Context(), client.Options{Endpoint: c.Endpoints[0], CA: []byte(c.CA), Cert: []byte(c.Cert), Key: []byte(c.Key)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// clusterCA returns the CA that the cluster's API trusts.
func clusterCA(t *testing.T) *pki.CA {
	t.Helper()
	var ca *pki.CA
	_ = filepath.WalkDir(os.Getenv("XDG_STATE_HOME"), func(path string, entry os.DirEntry, err error) error {
		if err != nil || ca != nil || !strings.HasSuffix(path, ".yaml") {
			return nil
		}
		f, err := os.Open(path)
		if err != nil {
			return nil
		}
		defer f.Close()
		config, err := machineconfig.Decode(path, f)
		if err != nil || config.Secrets == nil {
			return nil
		}
		ca, err = config.Secrets.OSCA.CA()
		if err != nil {
			t.Fatal(err)
		}
		return nil
	})
	if ca == nil {
		t.Fatal("no config with the cluster's secrets below the state folder")
	}
	return ca
}

// testRefusedClients tries every kind of client that must not get in.
func testRefusedClients(t *testing.T) {
	ours := clusterCA(t)
	other, err := pki.NewCA("another cluster", time.Now(), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	issue := func(ca *pki.CA, ttl time.Duration, now time.Time, roles ...string) *tls.Certificate {
		t.Helper()
		pair, err := ca.Issue(pki.Request{CommonName: "tester", Organizations: roles, Client: true, TTL: ttl, Now: now})
		if err != nil {
			t.Fatal(err)
		}
		cert, err := tls.X509KeyPair(pair.Cert, pair.Key)
		if err != nil {
			t.Fatal(err)
		}
		return &cert
	}
	now := time.Now()
	for name, c := range map[string]struct {
		cert    *tls.Certificate
		maximum uint16
		want    codes.Code
	}{
		"no certificate":         {nil, 0, codes.Unavailable},
		"another CA's":           {issue(other, time.Hour, now, "os:admin"), 0, codes.Unavailable},
		"an expired one":         {issue(ours, time.Hour, now.Add(-2*time.Hour), "os:admin"), 0, codes.Unavailable},
		"TLS 1.2":                {issue(ours, time.Hour, now, "os:admin"), tls.VersionTLS12, codes.Unavailable},
		"a reader that reboots":  {issue(ours, time.Hour, now, "os:reader"), 0, codes.PermissionDenied},
		"one that has no role":   {issue(ours, time.Hour, now), 0, codes.PermissionDenied},
		"one with an odd role":   {issue(ours, time.Hour, now, "os:Admin", "system:masters"), 0, codes.PermissionDenied},
		"etcd backup that tries": {issue(ours, time.Hour, now, "os:etcd:backup"), 0, codes.PermissionDenied},
	} {
		t.Run(name, func(t *testing.T) {
			roots := x509.NewCertPool()
			roots.AddCert(ours.Certificate())
			config := &tls.Config{RootCAs: roots, MaxVersion: c.maximum}
			if c.cert != nil {
				config.Certificates = []tls.Certificate{*c.cert}
			}
			conn, err := grpc.NewClient(current(t).Endpoints[0], grpc.WithTransportCredentials(credentials.NewTLS(config)))
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			_, err = machine.NewMachineServiceClient(conn).Reboot(ctx, &machine.RebootRequest{})
			if status.Code(err) != c.want {
				t.Errorf("reboot: %v, expected %s", err, c.want)
			}
		})
	}
	if log := osctl(t, "logs", "apid"); !strings.Contains(log, "tester") || !strings.Contains(log, "Reboot") {
		t.Errorf("apid's log names no refused client:\n%s", log)
	}
	if stage := osctl(t, "node-events"); strings.Contains(stage, "reboot") {
		t.Errorf("a refused client reached a handler:\n%s", stage)
	}
}
