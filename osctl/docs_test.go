package main

import (
	"strings"
	"testing"
)

func TestDocsNameEveryCommandThatUsersSee(t *testing.T) {
	harness := newHarness(t, nil)
	if code := harness.run(t, "docs"); code != exitOK {
		t.Fatalf("exit code %d: %s", code, harness.err)
	}
	page := harness.out.String()
	for _, want := range []string{"## osctl cluster create\n", "## osctl exec\n", "--pairing-code", "Exit codes:"} {
		if !strings.Contains(page, want) {
			t.Errorf("nothing of %q", want)
		}
	}
	if strings.Contains(page, "cluster network") {
		t.Error("names a hidden command")
	}
}
