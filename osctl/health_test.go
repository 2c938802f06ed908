package main

import (
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

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
