package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"

	clusterpb "github.com/keelson-os/keelson/pkg/api/cluster"
	imagepb "github.com/keelson-os/keelson/pkg/api/image"
	joinpb "github.com/keelson-os/keelson/pkg/api/join"
	machinepb "github.com/keelson-os/keelson/pkg/api/machine"
	"github.com/keelson-os/keelson/pkg/identity"
	"github.com/keelson-os/keelson/pkg/pki"
)

// testDeadline is far longer than anything in these tests takes.
const testDeadline = time.Minute

// testNode is apid on a loopback port with real TLS, in front of a machined
// that the test scripts.
type testNode struct {
	address  string
	ip       string // in its certificate
	ca       *pki.CA
	options  options
	machined *fakeMachined
	log      *lineLog
	server   *server
}

// startNode serves until the test ends. change may alter the flags.
func startNode(t testing.TB, change func(*options)) *testNode {
	t.Helper()
	return startNodeOf(t, newCA(t, "os"), listenAt(t, "127.0.0.1:0"), change)
}

func listenAt(t testing.TB, address string) net.Listener {
	t.Helper()
	listener, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	return listener
}

// startNodeOf serves on a listener, as a node of the CA's cluster.
func startNodeOf(t testing.TB, ca *pki.CA, listener net.Listener, change func(*options)) *testNode {
	t.Helper()
	dir := t.TempDir()
	n := &testNode{ca: ca, address: listener.Addr().String(), log: &lineLog{}, machined: &fakeMachined{}}
	n.ip, _, _ = net.SplitHostPort(n.address)
	n.options = options{
		listen: n.address, etcdAdmin: filepath.Join(dir, "etcd.sock"), node: n.ip,
		machined: filepath.Join(dir, "machined.sock"),
		ca:       filepath.Join(dir, "ca.pem"), cert: filepath.Join(dir, "server.pem"), key: filepath.Join(dir, "server.key"),
		kubeconfig: filepath.Join(dir, "kubeconfig"),
	}
	n.writeCertificates(t, n.ca)
	if change != nil {
		change(&n.options)
	}
	n.machined.serve(t, n.options.machined)

	var err error
	n.server, err = newServer(n.options, slog.New(slog.NewTextHandler(n.log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	n.server.grace = 0
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- n.server.serve(ctx, listener) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		n.server.close()
	})
	return n
}

func newCA(t testing.TB, name string) *pki.CA {
	t.Helper()
	ca, err := pki.NewCA(name, time.Now(), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

// writeCertificates replaces the node's files by ones of ca.
func (n *testNode) writeCertificates(t testing.TB, ca *pki.CA) {
	t.Helper()
	pair, err := ca.Issue(pki.Request{CommonName: "node", IPs: []netip.Addr{netip.MustParseAddr(n.ip)}, Server: true, TTL: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{n.options.ca: ca.KeyPair().Cert, n.options.cert: pair.Cert, n.options.key: pair.Key} {
		if err := os.WriteFile(name, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// client is a certificate of the node's CA.
func (n *testNode) client(name string, roles ...string) pki.Request {
	return pki.Request{CommonName: name, Organizations: roles, Client: true, TTL: time.Hour}
}

// dial connects with a certificate that ca issues as request says; with no CA
// there is no certificate. The server's is checked against the node's CA.
func (n *testNode) dial(t testing.TB, ca *pki.CA, request pki.Request) *grpc.ClientConn {
	t.Helper()
	roots := x509.NewCertPool()
	roots.AddCert(n.ca.Certificate())
	config := &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: roots}
	if ca != nil {
		pair, err := ca.Issue(request)
		if err != nil {
			t.Fatal(err)
		}
		cert, err := tls.X509KeyPair(pair.Cert, pair.Key)
		if err != nil {
			t.Fatal(err)
		}
		// Without the check of acceptable CAs that Certificates would cause: a
		// client of another CA must show its certificate.
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &cert, nil }
	}
	return dialTLS(t, n.address, config)
}

func dialTLS(t testing.TB, address string, config *tls.Config) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient("passthrough:"+address, grpc.WithTransportCredentials(credentials.NewTLS(config)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// admin is a connection that may do everything.
func (n *testNode) admin(t testing.TB) *grpc.ClientConn {
	return n.dial(t, n.ca, n.client("ada", identity.Admin))
}

func testContext(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), testDeadline)
	t.Cleanup(cancel)
	return ctx
}

// fakeMachined counts calls and answers with what the test sets.
type fakeMachined struct {
	machinepb.UnimplementedMachineServiceServer
	imagepb.UnimplementedImageServiceServer
	clusterpb.UnimplementedClusterServiceServer
	joinpb.UnimplementedJoinServiceServer
	calls   atomic.Int64
	version func(ctx context.Context) (*machinepb.VersionResponse, error)
	events  func(stream grpc.ServerStreamingServer[machinepb.Event]) error
	join    func(ctx context.Context, request *joinpb.JoinRequest) (*joinpb.JoinResponse, error)
	nodes   func() ([]*clusterpb.Node, error)
	imports func(stream grpc.ClientStreamingServer[imagepb.ImportRequest, imagepb.ImportResponse]) error
	server  *grpc.Server
}

func (f *fakeMachined) serve(t testing.TB, socket string) {
	t.Helper()
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	f.server = grpc.NewServer()
	machinepb.RegisterMachineServiceServer(f.server, f)
	imagepb.RegisterImageServiceServer(f.server, f)
	clusterpb.RegisterClusterServiceServer(f.server, f)
	joinpb.RegisterJoinServiceServer(f.server, f)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = f.server.Serve(listener)
	}()
	t.Cleanup(func() { f.server.Stop(); <-done })
}

func (f *fakeMachined) Version(ctx context.Context, _ *machinepb.VersionRequest) (*machinepb.VersionResponse, error) {
	f.calls.Add(1)
	if f.version != nil {
		return f.version(ctx)
	}
	return &machinepb.VersionResponse{Version: "v0"}, nil
}

func (f *fakeMachined) Reboot(context.Context, *machinepb.RebootRequest) (*machinepb.RebootResponse, error) {
	f.calls.Add(1)
	return &machinepb.RebootResponse{}, nil
}

func (f *fakeMachined) Events(_ *machinepb.EventsRequest, stream grpc.ServerStreamingServer[machinepb.Event]) error {
	f.calls.Add(1)
	return f.events(stream)
}

func (f *fakeMachined) Join(ctx context.Context, request *joinpb.JoinRequest) (*joinpb.JoinResponse, error) {
	f.calls.Add(1)
	return f.join(ctx, request)
}

// Nodes is apid's own question, not a call of a client.
func (f *fakeMachined) Nodes(context.Context, *clusterpb.NodesRequest) (*clusterpb.NodesResponse, error) {
	if f.nodes == nil {
		return &clusterpb.NodesResponse{}, nil
	}
	nodes, err := f.nodes()
	return &clusterpb.NodesResponse{Nodes: nodes}, err
}

// Import answers with the number of bytes it got.
func (f *fakeMachined) Import(stream grpc.ClientStreamingServer[imagepb.ImportRequest, imagepb.ImportResponse]) error {
	f.calls.Add(1)
	if f.imports != nil {
		return f.imports(stream)
	}
	size := int64(0)
	for {
		request, err := stream.Recv()
		if err != nil {
			return stream.SendAndClose(&imagepb.ImportResponse{Images: []*imagepb.Image{{Size: size}}})
		}
		size += int64(len(request.GetChunk()))
	}
}

// incoming is the metadata of a call as machined sees it.
func incoming(ctx context.Context, key string) string {
	md, _ := metadata.FromIncomingContext(ctx)
	return strings.Join(md.Get(key), ",")
}

// lineLog keeps what was logged and lets a test wait for a line.
type lineLog struct {
	mu      sync.Mutex
	text    bytes.Buffer
	changed chan struct{}
}

func (l *lineLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.changed != nil {
		close(l.changed)
		l.changed = nil
	}
	return l.text.Write(p)
}

// await waits for a line that holds all of parts.
func (l *lineLog) await(t *testing.T, parts ...string) {
	t.Helper()
	timeout := time.After(testDeadline)
	for {
		l.mu.Lock()
		text := l.text.String()
		if l.changed == nil {
			l.changed = make(chan struct{})
		}
		changed := l.changed
		l.mu.Unlock()
		if hasLine(text, parts) {
			return
		}
		select {
		case <-changed:
		case <-timeout:
			t.Fatalf("no line of the log holds all of %q:\n%s", parts, text)
		}
	}
}

func hasLine(text string, parts []string) bool {
	for line := range strings.Lines(text) {
		all := true
		for _, part := range parts {
			all = all && strings.Contains(line, part)
		}
		if all {
			return true
		}
	}
	return false
}
