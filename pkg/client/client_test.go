package client

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/keelson-os/keelson/pkg/api/machine"
	"github.com/keelson-os/keelson/pkg/identity"
	"github.com/keelson-os/keelson/pkg/pki"
)

// node is a server that answers with the metadata it was sent.
type node struct {
	machine.UnimplementedMachineServiceServer
}

func (node) Version(ctx context.Context, _ *machine.VersionRequest) (*machine.VersionResponse, error) {
	sent, _ := metadata.FromIncomingContext(ctx)
	return &machine.VersionResponse{
		Version:  strings.Join(sent.Get(PairingCodeKey), ","),
		Hostname: strings.Join(sent.Get(identity.MetadataNode), ","), Kernel: strings.Join(sent.Get("request-id"), ","),
	}, nil
}

func (node) Events(_ *machine.EventsRequest, stream machine.MachineService_EventsServer) error {
	sent, _ := metadata.FromIncomingContext(stream.Context())
	return stream.Send(&machine.Event{Subject: strings.Join(sent.Get(identity.MetadataNode), ",")})
}

func newCA(t *testing.T) *pki.CA {
	t.Helper()
	ca, err := pki.NewCA("test", time.Now(), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

func issue(t *testing.T, ca *pki.CA, request pki.Request) pki.KeyPair {
	t.Helper()
	request.TTL = time.Hour
	pair, err := ca.Issue(request)
	if err != nil {
		t.Fatal(err)
	}
	return pair
}

// serve starts a node with a certificate for 127.0.0.1 and returns its
// endpoint and its certificate.
func serve(t *testing.T, ca *pki.CA, auth tls.ClientAuthType) (string, pki.KeyPair) {
	t.Helper()
	pair := issue(t, ca, pki.Request{CommonName: "node", Server: true, IPs: []netip.Addr{netip.MustParseAddr("127.0.0.1")}})
	cert, err := tls.X509KeyPair(pair.Cert, pair.Key)
	if err != nil {
		t.Fatal(err)
	}
	clients := x509.NewCertPool()
	clients.AddCert(ca.Certificate())
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer(grpc.Creds(credentials.NewTLS(&tls.Config{
		MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{cert}, ClientAuth: auth, ClientCAs: clients,
	})))
	machine.RegisterMachineServiceServer(server, node{})
	done := make(chan struct{})
	go func() { defer close(done); _ = server.Serve(listener) }()
	t.Cleanup(func() { server.Stop(); <-done })
	return listener.Addr().String(), pair
}

func callVersion(t *testing.T, options Options) (string, error) {
	t.Helper()
	client, err := Dial(t.Context(), options)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	response, err := client.Machine.Version(ctx, &machine.VersionRequest{})
	return response.GetVersion(), err
}

func TestDialProvesBothSides(t *testing.T) {
	ca, other := newCA(t), newCA(t)
	endpoint, _ := serve(t, ca, tls.RequireAndVerifyClientCert)
	ours := issue(t, ca, pki.Request{CommonName: "user", Client: true})
	good := Options{Endpoint: endpoint, CA: ca.KeyPair().Cert, Cert: ours.Cert, Key: ours.Key}
	if _, err := callVersion(t, good); err != nil {
		t.Error(err)
	}
	withFallback := good
	withFallback.Endpoint, withFallback.Fallbacks = "127.0.0.1:1", []string{endpoint}
	if _, err := callVersion(t, withFallback); err != nil {
		t.Errorf("with a first endpoint that does not answer: %v", err)
	}
	otherServer := good
	otherServer.CA = other.KeyPair().Cert
	if _, err := callVersion(t, otherServer); status.Code(err) != codes.Unavailable {
		t.Errorf("a node of another CA: %v", err)
	}
	nobody := good
	nobody.Cert, nobody.Key = nil, nil
	if _, err := callVersion(t, nobody); status.Code(err) != codes.Unavailable {
		t.Errorf("without a certificate: %v", err)
	}
}

func TestMaintenanceChecksTheFingerprintAndSendsTheCode(t *testing.T) {
	endpoint, pair := serve(t, newCA(t), tls.NoClientCert)
	cert, err := pki.ParseCert(pair.Cert)
	if err != nil {
		t.Fatal(err)
	}
	fingerprint := pki.Fingerprint(cert.Raw)
	sent, err := callVersion(t, Options{Endpoint: endpoint, Maintenance: &Maintenance{
		Fingerprint: strings.ToUpper(fingerprint[:2] + ":" + fingerprint[2:]), PairingCode: "1234",
	}})
	if err != nil || sent != "1234" {
		t.Errorf("the node was sent %q, %v", sent, err)
	}
	_, err = callVersion(t, Options{Endpoint: endpoint, Maintenance: &Maintenance{
		Fingerprint: strings.Repeat("0", 64), PairingCode: "1234",
	}})
	if err == nil || !strings.Contains(err.Error(), fingerprint) {
		t.Errorf("another fingerprint: %v", err)
	}
}

func TestDialRefusesWhatCannotWork(t *testing.T) {
	ca := newCA(t).KeyPair()
	for want, options := range map[string]Options{
		"fingerprint is not":     {Endpoint: "a", Maintenance: &Maintenance{Fingerprint: "zz", PairingCode: "1"}},
		"pairing code is missin": {Endpoint: "a", Maintenance: &Maintenance{Fingerprint: strings.Repeat("0", 64)}},
		"CA certificate":         {Endpoint: "a"},
		"client certificate":     {Endpoint: "a", CA: ca.Cert, Cert: []byte("x"), Key: []byte("y")},
		"endpoint is empty":      {CA: ca.Cert},
	} {
		if _, err := Dial(t.Context(), options); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}

func TestWithPort(t *testing.T) {
	for endpoint, want := range map[string]string{
		"10.0.0.5":          "10.0.0.5:50000",
		"10.0.0.5:1":        "10.0.0.5:1",
		"fd00::5":           "[fd00::5]:50000",
		"[fd00::5]:1":       "[fd00::5]:1",
		"node.example":      "node.example:50000",
		"":                  "",
		"https://10.0.0.5/": "",
	} {
		got, err := WithPort(endpoint)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q, %v, want %q", endpoint, got, err, want)
		}
	}
}
