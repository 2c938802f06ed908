package main

import (
	"math"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/keelson-os/keelson/pkg/api/cluster"
)

// waitedOut is how long is waited in vain: enough for one round of questions on a
// busy machine.
const waitedOut = "5s"

func TestHealth(t *testing.T) {
	harness, node := newClusterHarness(t)
	harness.golden(t, "health.txt", "health")
	node.unhealthy = 1
	harness.fails(t, exitError, []string{"not healthy"}, "health")
	compareGolden(t, "health-failed.txt", harness.out.String())
}

func TestHealthOfEveryNode(t *testing.T) {
	harness, node := newClusterHarness(t)
	node.nodes = []*cluster.Node{{Name: "dev-2"}, {Name: "dev-1"}, {Name: "dev-3"}}
	harness.golden(t, "health-nodes.txt", "health")
	node.dead = "dev-2"
	harness.fails(t, exitError, []string{"not healthy"}, "health")
	compareGolden(t, "health-nodes-failed.txt", harness.out.String())
	harness.fails(t, exitError, []string{"not healthy within " + waitedOut, "node dev-2: API: does not answer"}, "health", "--wait", "--timeout", waitedOut)
	harness.fails(t, exitError, []string{"not healthy"}, "health", "-o", "json")
	compareGolden(t, "health-nodes-failed.json", harness.out.String())
	// Who asks for one node gets its answer alone.
	harness.golden(t, "health.txt", "health", "-N", "dev-3")
}

func TestHealthOfAClusterOfOneNode(t *testing.T) {
	harness, node := newClusterHarness(t)
	node.nodes = []*cluster.Node{{Name: "dev-1"}}
	harness.golden(t, "health.txt", "health")
}

func TestAwaitedIsOneShortLine(t *testing.T) {
	check := func(name, message string) *cluster.Check { return &cluster.Check{Name: name, Message: message} }
	fine := &cluster.Check{Name: "etcd", Ok: true, Message: "42 ms"}
	for want, checks := range map[string][]*cluster.Check{
		"": {fine},
		"1 of 3 checks pass; node Ready: not joined":                         {fine, check("node Ready", "not joined; see osctl logs kubelet"), check("x", "y")},
		"0 of 1 checks pass; kube-apiserver: [-]a":                           {check("kube-apiserver", "[-]a\n[-]b")},
		"0 of 1 checks pass; x: " + strings.Repeat("y", maxAwaited-24) + "…": {check("x", strings.Repeat("y", 500))},
	} {
		if got := awaited(&cluster.HealthResponse{Checks: checks}); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestHealthWaits(t *testing.T) {
	harness, node := newClusterHarness(t)
	node.unhealthy = 1
	if code := harness.run(t, "health", "--wait"); code != exitOK || node.unhealthy >= 0 {
		t.Errorf("exit code %d: %s", code, harness.err)
	}
	node.unhealthy = math.MaxInt // there are many rounds
	harness.fails(t, exitError, []string{"not healthy within " + waitedOut, "etcd: connection refused"}, "health", "--wait", "--timeout", waitedOut)
	node.err = status.Error(codes.PermissionDenied, "Health needs the role os:reader")
	harness.fails(t, exitError, []string{"os:reader"}, "health", "--wait")
}
