package main

import (
	"strings"
	"testing"
	"time"
)

func TestRebootWaitsForAnotherBoot(t *testing.T) {
	harness, node := newMachineHarness(t)
	// The clock runs a minute with every look at it: the second answer is of a
	// kernel that started after the reboot was asked for.
	clock := testNow
	harness.now = func() time.Time { clock = clock.Add(time.Minute); return clock }
	node.uptimes = []time.Duration{5 * time.Hour, 10 * time.Second}
	if code := harness.run(t, "reboot", "--wait"); code != exitOK || !strings.Contains(harness.out.String(), "started again") {
		t.Errorf("exit code %d, %s%s", code, harness.out, harness.err)
	}
	if len(node.uptimes) != 1 {
		t.Error("did not wait for the second boot")
	}
	harness.now = func() time.Time { return testNow }
	node.uptimes = []time.Duration{5 * time.Hour}
	harness.fails(t, exitError, []string{"not started again within 10ms"}, "reboot", "--wait", "--timeout", "10ms")
}
