package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	clusterpb "github.com/keelson-os/keelson/pkg/api/cluster"
	imagepb "github.com/keelson-os/keelson/pkg/api/image"
	machinepb "github.com/keelson-os/keelson/pkg/api/machine"
	workloadpb "github.com/keelson-os/keelson/pkg/api/workload"
	"github.com/keelson-os/keelson/pkg/identity"
	"github.com/keelson-os/keelson/pkg/pki"
)

// testCluster is nodes cp-1, cp-2 and worker on 127.0.0.2 and after, all at one
// port, and what machined says of them.
type testCluster struct {
	cp1, cp2, worker *testNode
	port             string
	nodes            []*clusterpb.Node
}

// startCluster serves until the test ends. change may alter a node's flags.
func startCluster(t testing.TB, change func(name string, o *options)) *testCluster {
	t.Helper()
	ca := newCA(t, "os")
	listeners := listenAll(t, "127.0.0.2", "127.0.0.3", "127.0.0.4")
	c := &testCluster{}
	_, c.port, _ = net.SplitHostPort(listeners[0].Addr().String())
	start := func(i int, name string) *testNode {
		host, _, _ := net.SplitHostPort(listeners[i].Addr().String())
		c.nodes = append(c.nodes, &clusterpb.Node{Name: name, Addresses: []string{host}, ControlPlane: name != "worker"})
		node := startNodeOf(t, ca, listeners[i], func(o *options) {
			o.node = name
			if name != "worker" {
				o.forwardCert, o.forwardKey = o.cert+".forward", o.key+".forward"
				writeForwarder(t, ca, name, o)
			} else {
				o.kubeconfig = ""
			}
			if change != nil {
				change(name, o)
			}
		})
		node.machined.nodes = func() ([]*clusterpb.Node, error) { return c.nodes, nil }
		node.machined.version = func(ctx context.Context) (*machinepb.VersionResponse, error) {
			return &machinepb.VersionResponse{
				Hostname: name, Version: incoming(ctx, identity.MetadataUser) + " until " + incoming(ctx, identity.MetadataUntil),
				Kernel: incoming(ctx, identity.MetadataRole), Go: incoming(ctx, "keelson-anything") + incoming(ctx, identity.MetadataNode), RootHash: incoming(ctx, "request-id"),
			}, nil
		}
		return node
	}
	c.cp1, c.cp2, c.worker = start(0, "cp-1"), start(1, "cp-2"), start(2, "worker")
	return c
}

// listenAll listens at all addresses, at one port that is free at each.
func listenAll(t testing.TB, ips ...string) []net.Listener {
	t.Helper()
	for range 20 {
		listeners := []net.Listener{listenAt(t, ips[0]+":0")}
		_, port, _ := net.SplitHostPort(listeners[0].Addr().String())
		for _, ip := range ips[1:] {
			listener, err := net.Listen("tcp", net.JoinHostPort(ip, port))
			if err != nil {
				break
			}
			listeners = append(listeners, listener)
		}
		if len(listeners) == len(ips) {
			return listeners
		}
		for _, listener := range listeners {
			listener.Close()
		}
	}
	t.Fatal("no port is free on all loopback addresses")
	return nil
}

func forwarder(name string) pki.Request {
	return pki.Request{CommonName: name, Organizations: []string{identity.Forwarder}, Client: true, TTL: time.Hour}
}

func writeForwarder(t testing.TB, ca *pki.CA, name string, o *options) {
	t.Helper()
	pair, err := ca.Issue(forwarder(name))
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, o.forwardCert, string(pair.Cert))
	writeFile(t, o.forwardKey, string(pair.Key))
}

// ask asks one node for another's version.
func ask(t testing.TB, conn *grpc.ClientConn, node string, more ...string) (*machinepb.VersionResponse, error) {
	t.Helper()
	ctx := testContext(t)
	if node != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, identity.MetadataNode, node)
	}
	return machinepb.NewMachineServiceClient(conn).Version(metadata.AppendToOutgoingContext(ctx, more...), &machinepb.VersionRequest{})
}

func of(t testing.TB, node string) context.Context {
	return metadata.AppendToOutgoingContext(testContext(t), identity.MetadataNode, node)
}

func TestCallsReachTheNodeTheyAreFor(t *testing.T) {
	c := startCluster(t, nil)
	c.nodes[1].Addresses = []string{"127.0.0.9", "127.0.0.3"} // the first one answers nothing
	conn := c.cp1.admin(t)
	for _, test := range []struct{ node, want string }{
		{"", "cp-1"}, {"cp-1", "cp-1"}, {"127.0.0.2", "cp-1"}, {"::ffff:127.0.0.2", "cp-1"},
		{"cp-2", "cp-2"}, {"CP-2", "cp-2"}, {"127.0.0.3", "cp-2"},
		{"worker", "worker"}, {"127.0.0.4", "worker"},
	} {
		if got, err := ask(t, conn, test.node); err != nil || got.Hostname != test.want {
			t.Errorf("the call for %q was answered by %q, %v, want %s", test.node, got.GetHostname(), err, test.want)
		}
	}
	health, err := healthpb.NewHealthClient(conn).Check(of(t, "worker"), &healthpb.HealthCheckRequest{})
	if err != nil || health.GetStatus() != healthpb.HealthCheckResponse_SERVING {
		t.Errorf("health of the worker: %v, %v", health, err)
	}
	c.worker.server.health.SetServingStatus("", healthpb.HealthCheckResponse_NOT_SERVING)
	health, err = healthpb.NewHealthClient(conn).Check(of(t, "worker"), &healthpb.HealthCheckRequest{})
	if err != nil || health.GetStatus() != healthpb.HealthCheckResponse_NOT_SERVING {
		t.Errorf("health that the worker's apid says itself: %v, %v", health, err)
	}
	_, err = workloadpb.NewWorkloadServiceClient(conn).Get(of(t, "worker"), &workloadpb.GetRequest{Selection: &workloadpb.Selection{Resource: "pods"}})
	if status.Code(err) != codes.FailedPrecondition || !strings.Contains(err.Error(), "ask a control-plane node") {
		t.Errorf("workloads of the worker: %v", err)
	}
}

func TestNodesThatCannotBeAsked(t *testing.T) {
	c := startCluster(t, nil)
	admin := c.cp1.admin(t)
	twice := metadata.Pairs(identity.MetadataNode, "cp-2", identity.MetadataNode, "worker")
	_, err := machinepb.NewMachineServiceClient(admin).Version(metadata.NewOutgoingContext(testContext(t), twice), &machinepb.VersionRequest{})
	if status.Code(err) != codes.InvalidArgument {
		t.Errorf("two nodes: %v", err)
	}
	for _, test := range []struct {
		conn *grpc.ClientConn
		node string
		want codes.Code
		says string
	}{
		{admin, "wroker", codes.NotFound, `no node "wroker"; its nodes are: cp-1, cp-2, worker`},
		{admin, "127.0.0.1", codes.NotFound, "no node"}, // answers, but is nobody's
		{admin, "127.0.0.3:22", codes.NotFound, "no node"},
		{admin, strings.Repeat("x", maxNodeName+1), codes.InvalidArgument, "too long"},
		{c.worker.admin(t), "cp-1", codes.FailedPrecondition, "this node is a worker and passes nothing on: use a control-plane node as endpoint"},
	} {
		_, err := ask(t, test.conn, test.node)
		if status.Code(err) != test.want || !strings.Contains(err.Error(), test.says) {
			t.Errorf("%q: got %v, want %s with %q", test.node, err, test.want, test.says)
		}
	}
	if got, err := ask(t, c.worker.admin(t), "worker"); err != nil || got.Hostname != "worker" {
		t.Errorf("the worker of itself: %v, %v", got, err)
	}
	c.cp1.machined.server.Stop()
	if _, err := ask(t, c.cp1.admin(t), "cp-2"); err != nil {
		t.Errorf("right after machined is gone: %v", err) // the list is young
	}
	c.cp1.server.others.nodes.asked = time.Time{}
	_, err = ask(t, c.cp1.admin(t), "cp-2")
	if status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "which nodes the cluster has is not known here") {
		t.Errorf("without machined: %v", err)
	}
}

// Before a cluster is bootstrapped Kubernetes tells of no nodes, and a boot that
// went wrong tells of none at all.
func TestControlPlaneNodesOfTheConfigAreKnownByAddress(t *testing.T) {
	c := startCluster(t, func(name string, o *options) {
		o.controlPlanes = []netip.Addr{netip.MustParseAddr("127.0.0.2"), netip.MustParseAddr("127.0.0.3")}
	})
	conn := c.cp1.admin(t)
	for _, test := range []struct {
		nodes []*clusterpb.Node
		err   error
		want  codes.Code
		says  string
	}{
		{nil, nil, codes.NotFound, "the cluster has no nodes yet that are known here"},
		{nil, status.Error(codes.Unavailable, "no cluster yet"), codes.Unavailable, "no cluster yet"},
		{c.nodes[:1:1], nil, codes.NotFound, `no node "worker"`},
	} {
		c.cp1.machined.nodes = func() ([]*clusterpb.Node, error) { return test.nodes, test.err }
		c.cp1.server.others.nodes.asked = time.Time{}
		for _, address := range []string{"127.0.0.3", "::ffff:127.0.0.3"} {
			if got, err := ask(t, conn, address); err != nil || got.Hostname != "cp-2" {
				t.Errorf("%s: %q, %v", address, got.GetHostname(), err)
			}
		}
		_, err := ask(t, conn, "worker")
		if status.Code(err) != test.want || !strings.Contains(err.Error(), test.says) {
			t.Errorf("got %v, want %s with %q", err, test.want, test.says)
		}
		if hint := strings.Contains(err.Error(), "by their addresses: 127.0.0.2, 127.0.0.3"); hint != (test.nodes == nil) {
			t.Errorf("hint at addresses: %v", err)
		}
		if _, err := ask(t, conn, "127.0.0.4"); err == nil {
			t.Error("an address of nobody's was dialled")
		}
	}
	c.cp1.machined.nodes = func() ([]*clusterpb.Node, error) {
		return []*clusterpb.Node{{Name: "worker", Addresses: []string{"127.0.0.4", "127.0.0.3"}}}, nil
	}
	c.cp1.server.others.nodes.asked = time.Time{}
	if got, err := ask(t, conn, "127.0.0.3"); err != nil || got.Hostname != "cp-2" {
		t.Errorf("the address of cp-2, which the worker says is its own: %q, %v", got.GetHostname(), err)
	}
}

// Any node may say that it has an address; what is meant for another must not
// reach it.
func TestAnAddressOfTwoNodesIsNobodys(t *testing.T) {
	c := startCluster(t, nil)
	c.nodes[2].Addresses = []string{"127.0.0.4", "127.0.0.3"}
	conn := c.cp1.admin(t)
	_, err := ask(t, conn, "127.0.0.3")
	if status.Code(err) != codes.FailedPrecondition || !strings.Contains(err.Error(), "nodes cp-2 and worker both say that 127.0.0.3 is theirs") {
		t.Errorf("got %v", err)
	}
	if got, err := ask(t, conn, "cp-2"); err != nil || got.Hostname != "cp-2" {
		t.Errorf("by its name: %v, %v", got, err)
	}
}

func TestADeadNodeCostsABoundedTime(t *testing.T) {
	c := startCluster(t, nil)
	silent := listenAt(t, net.JoinHostPort("127.0.0.5", c.port)) // the kernel takes connections, nobody talks on them
	defer silent.Close()
	c.nodes = append(c.nodes, &clusterpb.Node{Name: "silent", Addresses: []string{"127.0.0.5"}},
		&clusterpb.Node{Name: "off", Addresses: []string{"127.0.0.6"}}, &clusterpb.Node{Name: "new"})
	conn := c.cp1.admin(t)
	for _, test := range []struct{ node, says string }{
		{"silent", fmt.Sprintf("node silent does not answer at 127.0.0.5:%s: ", c.port)},
		{"off", fmt.Sprintf("node off does not answer at 127.0.0.6:%s: ", c.port)},
		{"new", "node new has no address yet"},
	} {
		began := time.Now()
		_, err := ask(t, conn, test.node)
		if status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), test.says) || strings.Contains(err.Error(), "desc = \"") {
			t.Errorf("got %v, want %q", err, test.says)
		}
		if took := time.Since(began); took > testDeadline/2 {
			t.Errorf("node %s cost %s", test.node, took)
		}
	}
	if got, err := ask(t, conn, "cp-2"); err != nil || got.Hostname != "cp-2" {
		t.Errorf("another node: %v, %v", got, err)
	}
}

func TestStreamsPassThroughTwoNodes(t *testing.T) {
	c := startCluster(t, nil)
	c.worker.machined.events = func(stream grpc.ServerStreamingServer[machinepb.Event]) error {
		for i := range 100 {
			if err := stream.Send(&machinepb.Event{Sequence: uint64(i)}); err != nil {
				return err
			}
		}
		stream.SetTrailer(metadata.Pairs("a-trailer", "2"))
		return status.Error(codes.DataLoss, "no more")
	}
	conn := c.cp1.admin(t)
	events, err := machinepb.NewMachineServiceClient(conn).Events(of(t, "worker"), &machinepb.EventsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	for want := range uint64(100) {
		if event, err := events.Recv(); err != nil || event.GetSequence() != want {
			t.Fatalf("event %d: got %v, %v", want, event, err)
		}
	}
	if _, err := events.Recv(); status.Code(err) != codes.DataLoss || len(events.Trailer().Get("a-trailer")) != 1 {
		t.Errorf("after the last event: %v, trailer %v", err, events.Trailer())
	}
	upload, err := imagepb.NewImageServiceClient(conn).Import(of(t, "worker"))
	if err != nil {
		t.Fatal(err)
	}
	for range 20 {
		if err := upload.Send(&imagepb.ImportRequest{Chunk: make([]byte, 1<<20)}); err != nil {
			t.Fatal(err)
		}
	}
	answer, err := upload.CloseAndRecv()
	if err != nil || answer.GetImages()[0].GetSize() != 20<<20 {
		t.Errorf("got %v, %v", answer, err)
	}
}

func TestAClientThatDoesNotReadStopsTheSenderOnTheOtherNode(t *testing.T) {
	c := startCluster(t, nil)
	halted, all := make(chan struct{}), make(chan struct{})
	c.worker.machined.events = func(stream grpc.ServerStreamingServer[machinepb.Event]) error {
		for range 64 {
			halt := time.AfterFunc(time.Second, func() { close(halted) })
			err := stream.Send(&machinepb.Event{Message: strings.Repeat("x", 1<<20)})
			if !halt.Stop() || err != nil {
				return err
			}
		}
		close(all)
		return nil
	}
	ctx, cancel := context.WithCancel(of(t, "worker"))
	defer cancel()
	if _, err := machinepb.NewMachineServiceClient(c.cp1.admin(t)).Events(ctx, &machinepb.EventsRequest{}); err != nil {
		t.Fatal(err)
	}
	select {
	case <-halted:
	case <-all:
		t.Error("64 MiB were taken though the client read nothing")
	case <-ctx.Done():
		t.Error("the stream neither halts nor ends")
	}
}

// follow opens a stream to a node that says one thing and then nothing.
func (c *testCluster) follow(t *testing.T, node string) grpc.ServerStreamingClient[machinepb.Event] {
	t.Helper()
	events, err := machinepb.NewMachineServiceClient(c.cp1.admin(t)).Events(of(t, node), &machinepb.EventsRequest{Follow: true})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := events.Recv(); err != nil {
		t.Fatal(err)
	}
	return events
}

func sayOnce(ended chan<- error) func(grpc.ServerStreamingServer[machinepb.Event]) error {
	return func(stream grpc.ServerStreamingServer[machinepb.Event]) error {
		if err := stream.Send(&machinepb.Event{}); err != nil {
			return err
		}
		<-stream.Context().Done()
		ended <- stream.Context().Err()
		return stream.Context().Err()
	}
}

func TestACancelledCallEndsOnTheOtherNode(t *testing.T) {
	c := startCluster(t, nil)
	ended := make(chan error, 1)
	c.worker.machined.events = sayOnce(ended)
	ctx, cancel := context.WithCancel(of(t, "worker"))
	events, err := machinepb.NewMachineServiceClient(c.cp1.admin(t)).Events(ctx, &machinepb.EventsRequest{Follow: true})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := events.Recv(); err != nil {
		t.Fatal(err)
	}
	cancel()
	select {
	case <-ended:
	case <-time.After(testDeadline):
		t.Fatal("the other node's stream goes on after the client has gone")
	}
}

func TestANodeThatDiesEndsItsStreams(t *testing.T) {
	c := startCluster(t, nil)
	c.worker.machined.events = sayOnce(make(chan error, 1))
	events := c.follow(t, "worker")
	c.worker.server.grpc.Stop()
	_, err := events.Recv()
	if status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "node worker at 127.0.0.4:"+c.port+" stopped answering during the call") {
		t.Errorf("got %v", err)
	}
}

// A node that loses its power sends nothing, not even the end of a connection.
func TestANodeThatVanishesEndsItsStreams(t *testing.T) {
	if testing.Short() {
		t.Skip("gRPC does not ask for signs of life in less than 10 s")
	}
	alive := otherAlive
	otherAlive.Time, otherAlive.Timeout = 10*time.Second, time.Second
	defer func() { otherAlive = alive }()
	c := startCluster(t, nil)
	c.worker.machined.events = sayOnce(make(chan error, 1))
	// The list has the worker behind a wire that can be cut.
	wire := cutWire(t, net.JoinHostPort("127.0.0.7", c.port), c.worker.address)
	c.worker.ip = "127.0.0.7"
	c.worker.writeCertificates(t, c.worker.ca)
	c.nodes[2].Addresses = []string{"127.0.0.7"}
	events := c.follow(t, "worker")
	close(wire)
	_, err := events.Recv()
	if status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "stopped answering during the call") {
		t.Errorf("got %v", err)
	}
}

// cutWire passes on what comes at an address until the channel is closed, and
// from then on keeps everything.
func cutWire(t *testing.T, at, to string) chan struct{} {
	t.Helper()
	cut := make(chan struct{})
	listener := listenAt(t, at)
	t.Cleanup(func() { listener.Close() })
	carry := func(from, to net.Conn) {
		buffer := make([]byte, 64<<10)
		for {
			count, err := from.Read(buffer)
			if err != nil {
				return
			}
			select {
			case <-cut:
				continue
			default:
			}
			if _, err := to.Write(buffer[:count]); err != nil {
				return
			}
		}
	}
	go func() {
		for {
			near, err := listener.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("tcp", to)
			if err != nil {
				near.Close()
				return
			}
			t.Cleanup(func() { near.Close(); far.Close() })
			go carry(near, far)
			go carry(far, near)
		}
	}()
	return cut
}

func TestEtcdCallsGoToItsSocket(t *testing.T) {
	n := startNode(t, nil)
	members := func() error {
		return n.admin(t).Invoke(testContext(t), "/keelson.etcd.v1.EtcdService/Members", &machinepb.VersionRequest{}, &machinepb.VersionResponse{})
	}
	if err := members(); status.Code(err) != codes.FailedPrecondition || !strings.Contains(err.Error(), "this node runs no etcd") {
		t.Errorf("without etcd: %v", err)
	}
	etcd := grpc.NewServer(grpc.UnknownServiceHandler(func(_ any, stream grpc.ServerStream) error {
		return status.Error(codes.Unavailable, "no leader; asked by "+incoming(stream.Context(), identity.MetadataUser)+" "+incoming(stream.Context(), identity.MetadataRole))
	}))
	listener, err := net.Listen("unix", n.options.etcdAdmin)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { defer close(done); _ = etcd.Serve(listener) }()
	defer func() { etcd.Stop(); <-done }()
	await(t, "etcd's own words", func() bool {
		err = members()
		return strings.Contains(err.Error(), "no leader; asked by ada os:admin")
	})
	if calls := n.machined.calls.Load(); calls != 0 {
		t.Errorf("%d calls reached machined", calls)
	}
}

// await waits for a condition.
func await(t testing.TB, what string, met func() bool) {
	t.Helper()
	late := time.After(testDeadline)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !met() {
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("no %s within %s", what, testDeadline)
		}
	}
}

func TestForwardFlags(t *testing.T) {
	if _, err := parseOptions([]string{"--ca=a", "--cert=b", "--key=c", "--control-plane=cp-1"}, io.Discard); err == nil || !strings.Contains(err.Error(), "control-plane") {
		t.Errorf("a name in place of an address: %v", err)
	}
	o, err := parseOptions([]string{"--ca=a", "--cert=b", "--key=c", "--control-plane=10.0.0.5", "--control-plane=fd00::6"}, io.Discard)
	if err != nil || len(o.controlPlanes) != 2 {
		t.Errorf("got %v, %v", o.controlPlanes, err)
	}
	_, err = parseOptions([]string{"--ca=a", "--cert=b", "--key=c", "--forward-cert=d"}, io.Discard)
	if err == nil || !strings.Contains(err.Error(), "--forward-key") {
		t.Errorf("got %v", err)
	}
	o = options{listen: ":50000", ca: "a", forwardCert: filepath.Join(t.TempDir(), "none"), forwardKey: "b"}
	if _, err := newOthers(o, localBackend{}, nil); err == nil {
		t.Errorf("files that do not exist: %v", err)
	}
}
