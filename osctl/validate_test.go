package main

import (
	"path/filepath"
	"testing"
)

func TestValidate(t *testing.T) {
	harness := newHarness(t, nil)
	dir := t.TempDir()
	if code := harness.run(t, "gen", "config", "prod", "--control-plane", "10.0.0.5", "--output-dir", dir); code != exitOK {
		t.Fatalf("exit code %d: %s", code, harness.err)
	}
	good, bad := filepath.Join(dir, "controlplane.yaml"), filepath.Join(dir, "bad.yaml")
	if code := harness.run(t, "validate", good); code != exitOK || harness.out.String() != good+": valid\n" {
		t.Errorf("exit code %d: %s%s", code, harness.out, harness.err)
	}
	writeFile(t, bad, "apiVersion: keelson/v1\nkind: Machine\nhostnam: x\n")
	harness.fails(t, exitError, []string{bad + `:3:1: machine: unknown field "hostnam": did you mean "hostname"?`, "not valid"}, "validate", good, bad)
	if code := harness.run(t, "validate", filepath.Join(dir, "worker.yaml")); code != exitOK {
		t.Errorf("a worker's config: exit code %d: %s", code, harness.err)
	}
	harness.fails(t, exitError, []string{"none.yaml"}, "validate", "none.yaml")
}
