package main

import (
	"crypto/tls"
	"crypto/x509"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	machinepb "github.com/keelson-os/keelson/pkg/api/machine"
	workloadpb "github.com/keelson-os/keelson/pkg/api/workload"
	"github.com/keelson-os/keelson/pkg/identity"
	"github.com/keelson-os/keelson/pkg/pki"
)

func certificateOf(t testing.TB, ca *pki.CA, request pki.Request) *x509.Certificate {
	t.Helper()
	pair, err := ca.Issue(request)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := pki.ParseCert(pair.Cert)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func TestRefusedClientsReachNoHandlerAndAreLogged(t *testing.T) {
	n := startNode(t, nil)
	expired := n.client("late", identity.Admin)
	expired.Now, expired.TTL = time.Now().Add(-72*time.Hour), time.Hour
	reboot := func(conn *grpc.ClientConn) error {
		_, err := machinepb.NewMachineServiceClient(conn).Reboot(testContext(t), &machinepb.RebootRequest{})
		return err
	}
	apply := func(conn *grpc.ClientConn) error {
		stream, err := workloadpb.NewWorkloadServiceClient(conn).Apply(testContext(t), &workloadpb.ApplyRequest{})
		if err == nil {
			_, err = stream.Recv()
		}
		return err
	}
	for _, test := range []struct {
		name    string
		ca      *pki.CA
		request pki.Request
		call    func(*grpc.ClientConn) error
		want    codes.Code
		logged  []string
	}{
		{"no certificate", nil, pki.Request{}, reboot, codes.Unavailable,
			[]string{"client refused", "127.0.0.1", "provide a certificate"}},
		{"certificate of another CA", newCA(t, "other"), n.client("mallory", identity.Admin), reboot, codes.Unavailable,
			[]string{"client refused", "127.0.0.1", "unknown authority", "claimed_name=mallory"}},
		{"expired certificate", n.ca, expired, reboot, codes.Unavailable,
			[]string{"client refused", "127.0.0.1", "expired", "claimed_name=late"}},
		{"reader reboots", n.ca, n.client("rita", identity.Reader), reboot, codes.PermissionDenied,
			[]string{"call refused", "client.name=rita", "client.serial=", "client.remote=127.0.0.1", "MachineService/Reboot", identity.Operator}},
		{"reader applies", n.ca, n.client("rita", identity.Reader), apply, codes.PermissionDenied,
			[]string{"call refused", "client.name=rita", "WorkloadService/Apply"}},
		{"a Kubernetes component's name", n.ca, n.client("system:admin", identity.Admin), reboot, codes.Unauthenticated,
			[]string{"call refused", "client.name=system:admin"}},
		{"unknown method", n.ca, n.client("ada", identity.Admin), func(conn *grpc.ClientConn) error {
			return conn.Invoke(testContext(t), "/keelson.machine.v1.MachineService/Explode", &machinepb.RebootRequest{}, &machinepb.RebootResponse{})
		}, codes.Unimplemented, []string{"call refused", "client.name=ada", "Explode"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			err := test.call(n.dial(t, test.ca, test.request))
			if status.Code(err) != test.want {
				t.Errorf("got %v, want %s", err, test.want)
			}
			n.log.await(t, test.logged...)
		})
	}
	if calls := n.machined.calls.Load(); calls != 0 {
		t.Errorf("%d calls reached machined", calls)
	}
}

func TestOldTLSIsRefused(t *testing.T) {
	n := startNode(t, nil)
	roots := x509.NewCertPool()
	roots.AddCert(n.ca.Certificate())
	conn, err := tls.Dial("tcp", n.address, &tls.Config{RootCAs: roots, MaxVersion: tls.VersionTLS12, NextProtos: []string{"h2"}})
	if err == nil {
		conn.Close()
		t.Fatal("TLS 1.2 is accepted")
	}
	if !strings.Contains(err.Error(), "protocol version") {
		t.Errorf("got %v, want an alert about the version", err)
	}
	n.log.await(t, "client refused", "unsupported versions")
}

func TestCertificatesAreReloaded(t *testing.T) {
	n := startNode(t, nil)
	version := func(conn *grpc.ClientConn) error {
		_, err := machinepb.NewMachineServiceClient(conn).Version(testContext(t), &machinepb.VersionRequest{})
		return err
	}
	old := n.admin(t)
	if err := version(old); err != nil {
		t.Fatal(err)
	}
	was := n.ca
	n.ca = newCA(t, "os, second")
	n.writeCertificates(t, n.ca)
	if err := version(n.admin(t)); err != nil {
		t.Errorf("a client of the new CA: %v", err)
	}
	if err := version(n.dial(t, was, n.client("ada", identity.Admin))); status.Code(err) != codes.Unavailable {
		t.Errorf("a client of the CA that was replaced: %v", err)
	}
	if err := version(old); err != nil {
		t.Errorf("a connection from before: %v", err)
	}
}

func TestBrokenCertificateFilesChangeNothing(t *testing.T) {
	n := startNode(t, nil)
	writeFile(t, n.options.cert, "no certificate")
	if _, err := machinepb.NewMachineServiceClient(n.admin(t)).Version(testContext(t), &machinepb.VersionRequest{}); err != nil {
		t.Error(err)
	}
	n.log.await(t, "not usable", n.options.cert)
}
