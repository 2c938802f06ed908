package main

import (
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

func TestBootstrap(t *testing.T) {
	harness, node := newClusterHarness(t)
	if code := harness.run(t, "bootstrap"); code != exitOK {
		t.Errorf("exit code %d: %s", code, harness.err)
	}
	node.bootstrapErr = status.Error(codes.FailedPrecondition, "this node has etcd data already")
	harness.fails(t, exitError, []string{"bootstrap: this node has etcd data already"}, "bootstrap")
}
