package main

import (
	"context"
	"strings"
	"sync"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/keelson-os/keelson/pkg/api/cluster"
	"github.com/keelson-os/keelson/pkg/identity"
)

const testKubeconfig = `apiVersion: v1
kind: Config
clusters: [{name: dev, cluster: {server: "https://10.77.0.11:6443", certificate-authority-data: Y2E=}}]
users: [{name: admin, user: {client-certificate-data: Y2VydA==, client-key-data: a2V5}}]
contexts: [{name: admin@dev, context: {cluster: dev, user: admin}}]
current-context: admin@dev
`

// fakeCluster becomes healthy after some questions.
type fakeCluster struct {
	cluster.UnimplementedClusterServiceServer
	asked        sync.Mutex // nodes are asked at the same time
	unhealthy    int
	err          error
	bootstrapErr error
	// nodes are those of the cluster; dead names one that does not answer.
	nodes []*cluster.Node
	dead  string
	// machines, if set, are the nodes instead; once bootstrapped, all are ready.
	machines *fakeMachines
}

func (node *fakeCluster) Bootstrap(context.Context, *cluster.BootstrapRequest) (*cluster.BootstrapResponse, error) {
	return &cluster.BootstrapResponse{}, node.bootstrapErr
}

func (node *fakeCluster) Health(ctx context.Context, _ *cluster.HealthRequest) (*cluster.HealthResponse, error) {
	if node.err != nil {
		return nil, node.err
	}
	if name := askedFor(ctx); name != "" && name == node.dead {
		return nil, status.Errorf(codes.Unavailable, "node %s does not answer: no route to host", name)
	}
	node.asked.Lock()
	healthy := node.unhealthy <= 0
	node.unhealthy--
	node.asked.Unlock()
	message := "42 ms"
	if !healthy {
		message = "connection refused; see osctl logs etcd"
	}
	return &cluster.HealthResponse{Healthy: healthy, Checks: []*cluster.Check{
		{Name: "etcd", Ok: healthy, Message: message}, {Name: "node Ready", Ok: true},
	}}, nil
}

func (node *fakeCluster) Kubeconfig(context.Context, *cluster.KubeconfigRequest) (*cluster.KubeconfigResponse, error) {
	return &cluster.KubeconfigResponse{Kubeconfig: []byte(testKubeconfig)}, node.err
}

func (node *fakeCluster) Nodes(context.Context, *cluster.NodesRequest) (*cluster.NodesResponse, error) {
	if node.machines != nil && node.machines.bootstrapped.Load() {
		answer := &cluster.NodesResponse{}
		for _, machine := range node.machines.options.Nodes {
			answer.Nodes = append(answer.Nodes, &cluster.Node{Name: machine.Name, ControlPlane: machine.ControlPlane, Ready: true, Version: "v1.37.1"})
		}
		return answer, nil
	}
	if node.nodes == nil {
		return nil, status.Error(codes.Unavailable, "the cluster is not bootstrapped yet")
	}
	return &cluster.NodesResponse{Nodes: node.nodes}, nil
}

// askedFor is the node that a call is for, when it is another than the endpoint.
func askedFor(ctx context.Context) string {
	sent, _ := metadata.FromIncomingContext(ctx)
	return strings.Join(sent.Get(identity.MetadataNode), ",")
}

func newClusterHarness(t *testing.T) (*harness, *fakeCluster) {
	node := &fakeCluster{}
	return newHarness(t, func(server *grpc.Server) { cluster.RegisterClusterServiceServer(server, node) }), node
}
