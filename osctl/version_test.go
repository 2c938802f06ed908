package main

import (
	"testing"
)

func TestVersion(t *testing.T) {
	harness, _ := newMachineHarness(t)
	harness.golden(t, "version.txt", "version")
	harness.golden(t, "version.json", "version", "-o", "json")
	harness.fails(t, exitError, []string{`no context "x"`}, "version", "--context", "x")
	if harness.out.String() != "osctl v1.37.1\n" {
		t.Errorf("without a node: %s", harness.out)
	}
	if code := harness.run(t, "version", "--client"); code != exitOK || harness.out.String() != "osctl v1.37.1\n" {
		t.Errorf("exit code %d, %s", code, harness.out)
	}
}
