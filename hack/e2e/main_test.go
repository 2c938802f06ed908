// Package e2e boots the real image in a VM and uses it as a user would:
// through the API and osctl only. "make test" builds what it needs and names
// the artefacts in KEELSON_ARTIFACTS.
package e2e

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const (
	clusterName = "e2e"
	// Generous: under emulation a first boot takes minutes, and on a busy
	// machine twice that. On a machine with KVM nothing here waits so long.
	bootDeadline   = 30 * time.Minute
	settleDeadline = 8 * time.Minute
)

// artifacts is the folder of the built image; osctlPath the built osctl.
var (
	artifacts = os.Getenv("KEELSON_ARTIFACTS")
	osctlPath string
	// existing is a cluster of the user's that the steps of one test are to run
	// on, instead of a new one: for who writes tests.
	existing = os.Getenv("KEELSON_E2E_CLUSTER")
)

// Tests of machines that do little but start are parallel ones, which run when the
// others are done: they name their cluster in each command, as the current context is anyone's.

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	if artifacts == "" {
		fmt.Println("KEELSON_ARTIFACTS is not set: the end-to-end tests run by \"make test\"")
		return 0
	}
	osctlPath, _ = filepath.Abs("../../bin/osctl")
	if existing != "" {
		return m.Run()
	}
	state, err := os.MkdirTemp("", "keelson-e2e-")
	if err != nil {
		fmt.Println(err)
		return 1
	}
	defer os.RemoveAll(state)
	// Clusters and contexts of the user who runs the tests are left alone.
	os.Setenv("XDG_STATE_HOME", state)
	os.Setenv("OSCTL_CONFIG", filepath.Join(state, "osctl.yaml"))

	code := m.Run()
	if left := leftovers(state); len(left) > 0 {
		fmt.Println("destroy left behind:", left)
		return 1
	}
	return code
}

// startCluster creates a cluster for one test, makes it the one that osctl
// asks, and destroys it at the test's end.
func startCluster(t *testing.T, name string, flags ...string) {
	t.Helper()
	if existing != "" {
		return
	}
	began := time.Now()
	t.Cleanup(func() {
		if t.Failed() {
			printConsoles(os.Stdout, os.Getenv("XDG_STATE_HOME"))
		}
		if out, err := osctlFor(2*time.Minute, nil, "cluster", "destroy", name); err != nil {
			t.Errorf("destroy the cluster: %v\n%s", err, out)
		}
	})
	args := append([]string{"cluster", "create", name, "--artifacts", artifacts, "--timeout", bootDeadline.String()}, flags...)
	if out, err := osctlFor(bootDeadline+time.Minute, nil, args...); err != nil {
		t.Fatalf("create the cluster: %v\n%s", err, out)
	}
	t.Logf("cluster created in %s", time.Since(began).Round(time.Second))
}

// leftovers lists what is left of clusters below the state folder.
func leftovers(state string) []string {
	left, _ := filepath.Glob(filepath.Join(state, "keelson", "clusters", "*"))
	return left
}

// printConsoles prints the end of every node's console, which is where a
// node that cannot be reached says why.
func printConsoles(to *os.File, state string) {
	_ = filepath.WalkDir(state, func(path string, entry os.DirEntry, err error) error {
		if err != nil || !strings.Contains(entry.Name(), "console") {
			return nil
		}
		text, _ := os.ReadFile(path)
		if len(text) > 20000 {
			text = text[len(text)-20000:]
		}
		fmt.Fprintf(to, "--- %s\n%s\n", path, text)
		return nil
	})
}

// osctlFor runs osctl with a deadline and returns what it printed.
func osctlFor(deadline time.Duration, stdin []byte, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	cmd := exec.CommandContext(ctx, osctlPath, args...)
	cmd.Stdin = bytes.NewReader(stdin)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if err != nil {
		return stdout.String() + stderr.String(), fmt.Errorf("osctl %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(stderr.String()))
	}
	return stdout.String(), nil
}

// osctl runs osctl and fails the test when it fails.
func osctl(t *testing.T, args ...string) string {
	t.Helper()
	out, err := osctlFor(settleDeadline, nil, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// osctlFails runs osctl, which must fail with a message that holds each of
// want.
func osctlFails(t *testing.T, want []string, args ...string) {
	t.Helper()
	out, err := osctlFor(settleDeadline, nil, args...)
	if err == nil {
		t.Fatalf("osctl %s succeeded, expected a refusal; it printed:\n%s", strings.Join(args, " "), out)
	}
	for _, w := range want {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("osctl %s says nothing of %q:\n%v", strings.Join(args, " "), w, err)
		}
	}
}

// eventually calls check until it returns nil, and fails the test with its
// last error when the deadline passes first.
func eventually(t *testing.T, what string, check func() error) {
	t.Helper()
	deadline := time.Now().Add(settleDeadline)
	var err error
	for time.Now().Before(deadline) {
		if err = check(); err == nil {
			return
		}
		select {
		case <-time.After(time.Second):
		case <-t.Context().Done():
			t.Fatalf("%s: %v", what, err)
		}
	}
	t.Fatalf("%s: not within %s: %v", what, settleDeadline, err)
}

// write writes content to a file of the test's own folder and returns its path.
func write(t *testing.T, name string, content []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
