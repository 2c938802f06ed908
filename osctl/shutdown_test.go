package main

import (
	"testing"
)

func TestShutdown(t *testing.T) {
	harness, node := newMachineHarness(t)
	if code := harness.run(t, "shutdown"); code != exitOK || len(node.did) != 1 || node.did[0] != "shutdown" {
		t.Errorf("exit code %d, the node did %q", code, node.did)
	}
}
