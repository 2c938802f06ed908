package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	reflectionpb "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"

	joinpb "github.com/keelson-os/keelson/pkg/api/join"
	machinepb "github.com/keelson-os/keelson/pkg/api/machine"
	"github.com/keelson-os/keelson/pkg/identity"
)

// startJoin is a node whose join door is open, and the door's address.
func startJoin(t *testing.T) (n *testNode, address string) {
	t.Helper()
	n = startNode(t, func(o *options) { o.joinListen = "127.0.0.1:0" })
	n.machined.join = func(context.Context, *joinpb.JoinRequest) (*joinpb.JoinResponse, error) {
		return &joinpb.JoinResponse{Certificates: [][]byte{[]byte("signed")}}, nil
	}
	listener, err := net.Listen("tcp", n.options.joinListen)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- n.server.join.serve(ctx, listener) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return n, listener.Addr().String()
}

// stranger is a connection without a certificate.
func (n *testNode) stranger(t *testing.T, address string) *grpc.ClientConn {
	t.Helper()
	roots := x509.NewCertPool()
	roots.AddCert(n.ca.Certificate())
	return dialTLS(t, address, &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: roots})
}

func join(t *testing.T, conn *grpc.ClientConn, request *joinpb.JoinRequest) error {
	t.Helper()
	_, err := joinpb.NewJoinServiceClient(conn).Join(testContext(t), request)
	return err
}

func TestStrangersReachJoinAndNothingElse(t *testing.T) {
	n, address := startJoin(t)
	var told metadata.MD
	n.machined.join = func(ctx context.Context, request *joinpb.JoinRequest) (*joinpb.JoinResponse, error) {
		told, _ = metadata.FromIncomingContext(ctx)
		return &joinpb.JoinResponse{Certificates: [][]byte{[]byte(request.GetHostname())}}, nil
	}
	conn := n.stranger(t, address)
	ctx := metadata.AppendToOutgoingContext(testContext(t), identity.MetadataUser, "root", identity.MetadataRole, identity.Admin,
		identity.MetadataRemote, "10.9.9.9", "request-id", "7")
	answer, err := joinpb.NewJoinServiceClient(conn).Join(ctx, &joinpb.JoinRequest{Hostname: "worker-1"})
	if err != nil || string(answer.GetCertificates()[0]) != "worker-1" {
		t.Fatalf("got %v, %v", answer, err)
	}
	if remote := told.Get(identity.MetadataRemote); len(remote) != 1 || remote[0] != "127.0.0.1" {
		t.Errorf("machined was told of remotes %q", remote)
	}
	for _, key := range []string{identity.MetadataUser, identity.MetadataRole, "request-id"} {
		if values := told.Get(key); values != nil {
			t.Errorf("the stranger's %s reached machined: %q", key, values)
		}
	}

	calls := n.machined.calls.Load()
	_, version := machinepb.NewMachineServiceClient(conn).Version(testContext(t), &machinepb.VersionRequest{})
	_, health := healthpb.NewHealthClient(conn).Check(testContext(t), &healthpb.HealthCheckRequest{})
	reflection, err := reflectionpb.NewServerReflectionClient(conn).ServerReflectionInfo(testContext(t))
	if err == nil {
		_, err = reflection.Recv()
	}
	for name, err := range map[string]error{"version": version, "health": health, "reflection": err} {
		if status.Code(err) != codes.Unimplemented {
			t.Errorf("%s: %v, want Unimplemented", name, err)
		}
	}
	if n.machined.calls.Load() != calls {
		t.Error("another call than Join reached machined")
	}
	// The door does not open the other one.
	if err := join(t, n.stranger(t, n.address), &joinpb.JoinRequest{}); status.Code(err) != codes.Unavailable {
		t.Errorf("without a certificate on the API's own port: %v", err)
	}
}

func TestAdminsMayJoinThroughTheAPI(t *testing.T) {
	n := startNode(t, nil)
	n.machined.join = func(ctx context.Context, _ *joinpb.JoinRequest) (*joinpb.JoinResponse, error) {
		return &joinpb.JoinResponse{Certificates: [][]byte{[]byte(incoming(ctx, identity.MetadataRemote))}}, nil
	}
	ctx := metadata.AppendToOutgoingContext(testContext(t), identity.MetadataRemote, "10.9.9.9")
	answer, err := joinpb.NewJoinServiceClient(n.admin(t)).Join(ctx, &joinpb.JoinRequest{})
	if err != nil || string(answer.GetCertificates()[0]) != "" {
		t.Errorf("got %q, %v", answer.GetCertificates(), err)
	}
	if err := join(t, n.dial(t, n.ca, n.client("otto", identity.Operator)), &joinpb.JoinRequest{}); status.Code(err) != codes.PermissionDenied {
		t.Errorf("an operator: %v", err)
	}
}

func TestTheJoinDoorPassesRefusalsOnAndLogsThem(t *testing.T) {
	n, address := startJoin(t)
	n.machined.join = func(context.Context, *joinpb.JoinRequest) (*joinpb.JoinResponse, error) {
		return nil, status.Error(codes.Unauthenticated, "wrong token")
	}
	err := join(t, n.stranger(t, address), &joinpb.JoinRequest{Token: "a-secret-token"})
	if status.Code(err) != codes.Unauthenticated || !strings.Contains(err.Error(), "wrong token") {
		t.Errorf("got %v", err)
	}
	n.log.await(t, "join refused", "127.0.0.1", "Unauthenticated", "wrong token")
	n.log.mu.Lock()
	defer n.log.mu.Unlock()
	if strings.Contains(n.log.text.String(), "a-secret-token") {
		t.Error("the token is in the log")
	}
}

func TestTheJoinDoorIsNarrow(t *testing.T) {
	n, address := startJoin(t)
	conn := n.stranger(t, address)
	large := &joinpb.JoinRequest{Hostname: strings.Repeat("x", maxJoinRequest)}
	if err := join(t, conn, large); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("a large request: %v", err)
	}
	if n.machined.calls.Load() != 0 {
		t.Error("a large request reached machined")
	}
	// Whatever came before counts: some of the burst may be gone.
	var err error
	for range 2 * joinsOfOne.Burst {
		if err = join(t, conn, &joinpb.JoinRequest{}); err != nil {
			break
		}
	}
	if status.Code(err) != codes.ResourceExhausted || !strings.Contains(err.Error(), "too many attempts") {
		t.Errorf("after many calls: %v", err)
	}
	n.log.await(t, "join refused", "too many attempts", "127.0.0.1")

	_, err = tls.Dial("tcp", address, &tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12, NextProtos: []string{"h2"}})
	if err == nil || !strings.Contains(err.Error(), "protocol version") {
		t.Errorf("TLS 1.2: %v", err)
	}
}

func TestTheJoinDoorFollowsTheNodesCertificates(t *testing.T) {
	n, address := startJoin(t)
	n.ca = newCA(t, "os, second")
	n.writeCertificates(t, n.ca)
	if err := join(t, n.stranger(t, address), &joinpb.JoinRequest{}); err != nil {
		t.Errorf("with the new CA: %v", err)
	}
}

func TestTheJoinDoorWithoutMachined(t *testing.T) {
	n, address := startJoin(t)
	n.machined.server.Stop()
	err := join(t, n.stranger(t, address), &joinpb.JoinRequest{})
	if status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "machined does not answer") {
		t.Errorf("got %v", err)
	}
}

func TestOneStrangerTakesAFewPlacesOnly(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	few := newFewEach(listener, 1)
	defer few.Close()
	accepted := make(chan net.Conn)
	go func() {
		defer close(accepted)
		for {
			conn, err := few.Accept()
			if err != nil {
				return
			}
			accepted <- conn
		}
	}()
	dial := func() net.Conn {
		conn, err := net.Dial("tcp", listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		return conn
	}
	dial()
	first := <-accepted
	second := dial()
	_ = second.SetReadDeadline(time.Now().Add(testDeadline))
	if _, err := second.Read(make([]byte, 1)); !errors.Is(err, io.EOF) && !isHangUp(err) {
		t.Errorf("the second connection: %v, want it closed", err)
	}
	first.Close()
	first.Close() // gives its place back once
	dial()
	(<-accepted).Close()
	if len(few.open) != 0 {
		t.Errorf("%v are counted, though all are closed", few.open)
	}
}

func TestServingBothEndsBoth(t *testing.T) {
	n, _ := startJoin(t)
	other, err := newServer(n.options, n.server.join.refused.log)
	if err != nil {
		t.Fatal(err)
	}
	defer other.close()
	var listeners [2]net.Listener
	for i := range listeners {
		if listeners[i], err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
			t.Fatal(err)
		}
	}
	ended := make(chan error, 1)
	go func() { ended <- other.serveBoth(t.Context(), listeners[0], listeners[1]) }()
	if err := join(t, n.stranger(t, listeners[1].Addr().String()), &joinpb.JoinRequest{}); err != nil {
		t.Error(err)
	}
	listeners[1].Close() // whatever broke it
	select {
	case err := <-ended:
		if err == nil || !strings.Contains(err.Error(), "let nodes join") {
			t.Errorf("ended with %v", err)
		}
	case <-time.After(testDeadline):
		t.Fatal("the API goes on without its join door")
	}
}

func TestJoinFlags(t *testing.T) {
	_, err := parseOptions([]string{"--maintenance", "--pairing-code-file=p", "--cert=b", "--key=c", "--join-listen=:1"}, &strings.Builder{})
	if err == nil || !strings.Contains(err.Error(), "--join-listen") {
		t.Errorf("in maintenance: %v", err)
	}
	dir := t.TempDir()
	missing := options{joinListen: ":1", ca: "x", cert: filepath.Join(dir, "none"), key: "x"}
	if _, err := newServer(missing, nil); err == nil {
		t.Error("served without a certificate")
	}
}
