package main

import (
	"context"
	"net"
	"slices"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	"github.com/keelson-os/keelson/pkg/api/cluster"
	"github.com/keelson-os/keelson/pkg/api/image"
	"github.com/keelson-os/keelson/pkg/api/machine"
	"github.com/keelson-os/keelson/pkg/api/service"
	"github.com/keelson-os/keelson/pkg/client"
	"github.com/keelson-os/keelson/pkg/identity"
)

// fakeNode is one of a cluster's nodes.
type fakeNode struct {
	fakeMachine
	fakeServices
	images *fakeImages
	conn   *grpc.ClientConn
}

// fakeNodes is a cluster of cp-1, worker-1 and worker-2, which is dead, behind
// one endpoint, which passes calls on.
type fakeNodes struct {
	cluster.UnimplementedClusterServiceServer
	cp1, worker1 *fakeNode
	// dead is the endpoint's answer for worker-2.
	dead error
	// dialled are the endpoints that osctl connected to.
	dialled []string
}

func (nodes *fakeNodes) Nodes(context.Context, *cluster.NodesRequest) (*cluster.NodesResponse, error) {
	return &cluster.NodesResponse{Nodes: []*cluster.Node{{Name: "worker-2"}, {Name: "worker-1"}, {Name: "cp-1", ControlPlane: true}}}, nil
}

func (nodes *fakeNodes) Health(context.Context, *cluster.HealthRequest) (*cluster.HealthResponse, error) {
	return &cluster.HealthResponse{Healthy: true}, nil
}

// to is where the endpoint sends a call.
func (nodes *fakeNodes) to(ctx context.Context) (*grpc.ClientConn, error) {
	sent, _ := metadata.FromOutgoingContext(ctx)
	switch asked := sent.Get(identity.MetadataNode); {
	case slices.Equal(asked, []string{"worker-1"}):
		return nodes.worker1.conn, nil
	case slices.Equal(asked, []string{"worker-2"}):
		return nil, nodes.dead
	case len(asked) == 0, slices.Equal(asked, []string{"cp-1"}):
		return nodes.cp1.conn, nil
	default:
		return nil, status.Errorf(codes.NotFound, "the cluster has no node %q; its nodes are: cp-1, worker-1, worker-2", asked)
	}
}

func (nodes *fakeNodes) unary(ctx context.Context, method string, request, response any, _ *grpc.ClientConn, _ grpc.UnaryInvoker, options ...grpc.CallOption) error {
	conn, err := nodes.to(ctx)
	if err != nil {
		return err
	}
	return conn.Invoke(ctx, method, request, response, options...)
}

func (nodes *fakeNodes) stream(ctx context.Context, stream *grpc.StreamDesc, _ *grpc.ClientConn, method string, _ grpc.Streamer, options ...grpc.CallOption) (grpc.ClientStream, error) {
	conn, err := nodes.to(ctx)
	if err != nil {
		return nil, err
	}
	return conn.NewStream(ctx, stream, method, options...)
}

func newNodesHarness(t *testing.T) (*harness, *fakeNodes) {
	nodes := &fakeNodes{
		cp1: &fakeNode{}, worker1: &fakeNode{},
		dead: status.Error(codes.Unavailable, "node worker-2 does not answer at 10.77.0.13:50000: dial tcp 10.77.0.13:50000: i/o timeout"),
	}
	harness := newHarness(t, nil)
	for _, node := range []*fakeNode{nodes.cp1, nodes.worker1} {
		node.status, node.uptimes = &machine.StatusResponse{Stage: machine.StatusResponse_STAGE_RUNNING}, []time.Duration{5 * time.Hour}
		node.services = testServices()
		node.images = &fakeImages{cluster: nodes}
		node.conn = serveNode(t, node, nodes)
	}
	nodes.worker1.services = nodes.worker1.services[1:2]
	harness.dial = func(_ context.Context, options client.Options) (*client.Client, error) {
		nodes.dialled = append(nodes.dialled, options.Endpoint)
		conn, err := grpc.NewClient("passthrough:///endpoint", grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithUnaryInterceptor(nodes.unary), grpc.WithStreamInterceptor(nodes.stream))
		if err != nil {
			return nil, err
		}
		return client.New(conn), nil
	}
	return harness, nodes
}

// serveNode serves a node until the test ends.
func serveNode(t *testing.T, node *fakeNode, nodes *fakeNodes) *grpc.ClientConn {
	t.Helper()
	server := grpc.NewServer()
	machine.RegisterMachineServiceServer(server, &node.fakeMachine)
	service.RegisterServiceServiceServer(server, &node.fakeServices)
	image.RegisterImageServiceServer(server, node.images)
	cluster.RegisterClusterServiceServer(server, nodes)
	listener := bufconn.Listen(1 << 20)
	done := make(chan struct{})
	go func() { defer close(done); _ = server.Serve(listener) }()
	conn, err := grpc.NewClient("passthrough:///bufconn", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(); server.Stop(); <-done })
	return conn
}
