package main

import (
	"context"
	"testing"

	"google.golang.org/grpc"

	"github.com/keelson-os/keelson/pkg/api/cluster"
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
	unhealthy    int
	err          error
	bootstrapErr error
}

func (node *fakeCluster) Bootstrap(context.Context, *cluster.BootstrapRequest) (*cluster.BootstrapResponse, error) {
	return &cluster.BootstrapResponse{}, node.bootstrapErr
}

func (node *fakeCluster) Health(context.Context, *cluster.HealthRequest) (*cluster.HealthResponse, error) {
	if node.err != nil {
		return nil, node.err
	}
	healthy := node.unhealthy <= 0
	node.unhealthy--
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

func newClusterHarness(t *testing.T) (*harness, *fakeCluster) {
	node := &fakeCluster{}
	return newHarness(t, func(server *grpc.Server) { cluster.RegisterClusterServiceServer(server, node) }), node
}
