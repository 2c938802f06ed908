package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/keelson-os/keelson/pkg/api/cluster"
)

const testKubeconfig = `apiVersion: v1
kind: Config
clusters: [{name: dev, cluster: {server: "https://10.77.0.11:6443", certificate-authority-data: Y2E=}}]
users: [{name: admin@dev, user: {client-certificate-data: Y2VydA==, client-key-data: a2V5}}]
contexts: [{name: admin@dev, context: {cluster: dev, user: admin@dev}}]
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

func TestBootstrap(t *testing.T) {
	harness, node := newClusterHarness(t)
	if code := harness.run(t, "bootstrap"); code != exitOK {
		t.Errorf("exit code %d: %s", code, harness.err)
	}
	node.bootstrapErr = status.Error(codes.FailedPrecondition, "this node has etcd data already")
	harness.fails(t, exitError, []string{"bootstrap: this node has etcd data already"}, "bootstrap")
}

func TestHealth(t *testing.T) {
	harness, node := newClusterHarness(t)
	harness.golden(t, "health.txt", "health")
	node.unhealthy = 1
	harness.fails(t, exitError, []string{"not healthy"}, "health")
	compareGolden(t, "health-failed.txt", harness.out.String())
}

func TestHealthWaits(t *testing.T) {
	harness, node := newClusterHarness(t)
	node.unhealthy = 1
	if code := harness.run(t, "health", "--wait"); code != exitOK || node.unhealthy >= 0 {
		t.Errorf("exit code %d: %s", code, harness.err)
	}
	node.unhealthy = 1000
	harness.fails(t, exitError, []string{"not healthy within 10ms"}, "health", "--wait", "--timeout", "10ms")
	node.err = status.Error(codes.PermissionDenied, "Health needs the role os:reader")
	harness.fails(t, exitError, []string{"os:reader"}, "health", "--wait")
}

func TestKubeconfigIsWrittenForItsOwnerAndNeverOverSomethingElse(t *testing.T) {
	harness, _ := newClusterHarness(t)
	path := filepath.Join(t.TempDir(), "kubeconfig")
	if code := harness.run(t, "kubeconfig", path); code != exitOK {
		t.Fatalf("exit code %d: %s", code, harness.err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	config, err := clientcmd.LoadFromFile(path)
	if err != nil || config.Clusters["dev"].Server != "https://127.0.0.1:4001" {
		t.Errorf("%+v, %v", config, err)
	}
	harness.fails(t, exitError, []string{"exists already", "--force"}, "kubeconfig", path)
	if code := harness.run(t, "kubeconfig", path, "--force"); code != exitOK {
		t.Errorf("with --force: exit code %d: %s", code, harness.err)
	}
	if code := harness.run(t, "kubeconfig", "-"); code != exitOK || !strings.Contains(harness.out.String(), "current-context: admin@dev") {
		t.Errorf("to standard output: exit code %d: %s", code, harness.out)
	}
}

func TestKubeconfigMergeKeepsTheOthers(t *testing.T) {
	harness, _ := newClusterHarness(t)
	path := filepath.Join(t.TempDir(), "config")
	other := strings.ReplaceAll(testKubeconfig, "dev", "other")
	if err := os.WriteFile(path, []byte(other), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second time replaces its own
		if code := harness.run(t, "kubeconfig", "--merge", path); code != exitOK {
			t.Fatalf("exit code %d: %s", code, harness.err)
		}
	}
	config, err := clientcmd.LoadFromFile(path)
	if err != nil || len(config.Contexts) != 2 || config.CurrentContext != "admin@dev" {
		t.Errorf("%+v, %v", config, err)
	}
	if err := os.WriteFile(path, []byte(strings.Replace(testKubeconfig, "Y2E=", "b3RoZXI=", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	harness.fails(t, exitError, []string{`another cluster named "dev"`}, "kubeconfig", "--merge", path)
}
