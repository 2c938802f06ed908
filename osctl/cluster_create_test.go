package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/keelson-os/keelson/pkg/machineconfig"
	"github.com/keelson-os/keelson/pkg/provision"
)

func TestClusterCreateBringsANodeUp(t *testing.T) {
	harness, fake, node := newCreateHarness(t, nil)
	if code := harness.run(t, "cluster", "create", "new", "--memory", "3072", "--artifacts", "out"); code != exitOK {
		t.Fatalf("exit code %d: %s", code, harness.err)
	}
	if got := fake.options.Nodes[0]; got.MemoryMiB != 3072 || !got.ControlPlane || fake.options.Internet || fake.options.Artifacts != "out" {
		t.Errorf("asked for %+v", fake.options)
	}
	config, err := machineconfig.Decode("config", strings.NewReader(string(fake.configs["new-1"])))
	if err != nil {
		t.Fatal(err)
	}
	if config.Machine.Hostname != "new-1" || config.Cluster.Endpoint != "https://10.77.0.11:6443" {
		t.Errorf("config %+v %+v", config.Machine, config.Cluster)
	}
	if node.unhealthy >= 0 {
		t.Error("did not wait until all was healthy")
	}
	saved, err := harness.loadConfig()
	if err != nil {
		t.Fatal(err)
	}
	access, err := saved.Get("")
	if err != nil || saved.Current != "new" || access.Endpoints[0] != "127.0.0.1:4100" || access.Kubernetes != "https://127.0.0.1:4101" ||
		access.CA != config.Secrets.OSCA.Cert {
		t.Errorf("current %q: %+v, %v", saved.Current, access, err)
	}
	for _, step := range []string{"making secrets", "new-1: starting the machine", "bootstrapping", "healthy", "cluster new is up"} {
		if !strings.Contains(harness.err.String(), step) {
			t.Errorf("no step %q in:\n%s", step, harness.err)
		}
	}
	if !strings.Contains(harness.out.String(), "osctl get nodes") {
		t.Errorf("names no next commands: %s", harness.out)
	}
}

func TestClusterCreateOfSeveralNodes(t *testing.T) {
	harness, fake, _ := newCreateHarness(t, nil)
	patch := filepath.Join(t.TempDir(), "patch.yaml")
	writeFile(t, patch, "apiVersion: keelson/v1\nkind: Cluster\nnetwork:\n  backend: host-gw\n")
	code := harness.run(t, "cluster", "create", "ha", "--control-planes", "2", "--workers", "1", "--memory", "2048", "--worker-memory", "1024",
		"--pod-subnet", "10.50.0.0/16", "--config-patch", "@"+patch)
	if code != exitOK {
		t.Fatalf("exit code %d: %s", code, harness.err)
	}
	if !slices.Equal(fake.options.Start, []string{"ha-1"}) || !fake.bootstrapped.Load() {
		t.Errorf("started first %v, bootstrapped %v", fake.options.Start, fake.bootstrapped.Load())
	}
	for name, want := range map[string]string{"ha-1": "controlplane 2048", "ha-2": "controlplane 2048", "ha-3": "worker 1024"} {
		config, err := machineconfig.Decode(name, bytes.NewReader(fake.configs[name]))
		if err != nil {
			t.Fatal(err)
		}
		index := slices.IndexFunc(fake.options.Nodes, func(node provision.Node) bool { return node.Name == name })
		if got := fmt.Sprintf("%s %d", config.Machine.Type, fake.options.Nodes[index].MemoryMiB); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
		if got := fmt.Sprint(config.Machine.Hostname, config.Cluster.ControlPlane.Addresses, config.Cluster.Network.PodSubnet, config.Cluster.Network.Backend); got != name+"[10.77.0.11 10.77.0.12] 10.50.0.0/16host-gw" {
			t.Errorf("%s: %s", name, got)
		}
	}
	saved, err := harness.loadConfig()
	if err != nil {
		t.Fatal(err)
	}
	if access := saved.Contexts["ha"]; !slices.Equal(access.Nodes, []string{"ha-1", "ha-2"}) || len(access.Endpoints) != 2 {
		t.Errorf("context %v %v", access.Nodes, access.Endpoints)
	}
	for _, text := range []string{"warning: 2 control-plane nodes survive no failure: use 1 or 3", "ha-3 ready", "cluster ha is up"} {
		if !strings.Contains(harness.err.String(), text) {
			t.Errorf("nothing of %q in:\n%s", text, harness.err)
		}
	}
}

func TestClusterCreateTakesABootstrappedNodeAsItIs(t *testing.T) {
	harness, _, node := newCreateHarness(t, nil)
	node.bootstrapErr = status.Error(codes.FailedPrecondition, "bootstrapped before")
	if code := harness.run(t, "cluster", "create", "new"); code != exitOK {
		t.Errorf("exit code %d: %s", code, harness.err)
	}
}

func TestClusterCreateSaysWhyANodeDoesNotComeUp(t *testing.T) {
	for name, test := range map[string]struct {
		silence error
		pid     int
		want    string
	}{
		"maintenance": {status.Error(codes.Unavailable, `connection error: desc = "transport: authentication handshake failed: x509: certificate signed by unknown authority"`), 7, "maintenance mode: its console /consoles/new-1"},
		"ended":       {status.Error(codes.Unavailable, "x"), 0, "has ended: see its console /consoles/new-1"},
		"too slow":    {status.Error(codes.Unavailable, "still booting"), 7, "not up within 1s\nnew-1 is starting: still booting"},
	} {
		t.Run(name, func(t *testing.T) {
			harness, fake, _ := newCreateHarness(t, test.silence)
			fake.pid = test.pid
			harness.fails(t, exitError, []string{test.want, "osctl cluster destroy new"}, "cluster", "create", "new", "--timeout", "1s")
		})
	}
}

func TestClusterCreateRefusesBeforeItMakesAnything(t *testing.T) {
	harness, fake, _ := newCreateHarness(t, nil)
	harness.fails(t, exitUsage, []string{"--control-planes 8: expected 1 to 7"}, "cluster", "create", "new", "--control-planes", "8")
	harness.fails(t, exitUsage, []string{"--workers -1"}, "cluster", "create", "new", "--workers", "-1")
	harness.fails(t, exitUsage, []string{`--pod-subnet "10.0.0.0"`}, "cluster", "create", "new", "--pod-subnet", "10.0.0.0")
	harness.fails(t, exitError, []string{"overlaps cluster.network.podSubnet"}, "cluster", "create", "new", "--service-subnet", "10.244.8.0/24")
	harness.fails(t, exitError, []string{"the service subnet 10.77.0.128/25 overlaps 10.77.0.0/24", "--service-subnet"}, "cluster", "create", "new", "--service-subnet", "10.77.0.128/25")
	harness.fails(t, exitError, []string{"the pod subnet 10.50.0.0/23 has room for 2 nodes"}, "cluster", "create", "new", "--pod-subnet", "10.50.0.0/23", "--workers", "2")
	patch := filepath.Join(t.TempDir(), "patch.yaml")
	writeFile(t, patch, "apiVersion: keelson/v1\nkind: Machine\nkubelett: {}\n")
	harness.fails(t, exitError, []string{patch + ":3:1: machine: unknown field"}, "cluster", "create", "new", "--config-patch", patch)
	harness.fails(t, exitUsage, []string{"xen"}, "cluster", "create", "new", "--accel", "xen")
	harness.fails(t, exitError, []string{`a context "dev" already`}, "cluster", "create", "dev")
	if fake.options.Name != "" {
		t.Errorf("made %+v", fake.options)
	}
	state := filepath.Join(os.Getenv("XDG_STATE_HOME"), "keelson", "clusters", "dev")
	if err := os.MkdirAll(state, 0o700); err != nil {
		t.Fatal(err)
	}
	harness.fails(t, exitError, []string{"there is a cluster dev already", "osctl cluster destroy dev"}, "cluster", "create", "dev")
	if strings.Contains(harness.err.String(), "config remove") {
		t.Errorf("tells to throw the access to the cluster away: %s", harness.err)
	}
	fake.err = errors.New("no QEMU: install qemu-system-x86")
	harness.fails(t, exitError, []string{"install qemu-system-x86"}, "cluster", "create", "new")
	if config, err := harness.loadConfig(); err != nil || len(config.Contexts) != 1 {
		t.Errorf("left a context behind: %v, %v", config.Names(), err)
	}
}

func TestClusterCreateLeavesNoMachineThatNobodyCanReach(t *testing.T) {
	harness, fake, _ := newCreateHarness(t, nil)
	path, err := harness.configPath()
	if err != nil {
		t.Fatal(err)
	}
	// The client config breaks while the machines are made.
	harness.createMachines = func(ctx context.Context, options provision.Options) (machines, error) {
		if err := os.WriteFile(path, []byte("broken: ["), 0o600); err != nil {
			return nil, err
		}
		return fake.create(ctx, options)
	}
	harness.fails(t, exitError, []string{"read the client config"}, "cluster", "create", "new")
	if !fake.destroyed {
		t.Error("the machines are left")
	}
}

func TestClusterCreateWithARawConfigMakesNoContext(t *testing.T) {
	harness, fake, _ := newCreateHarness(t, nil)
	file := filepath.Join(t.TempDir(), "raw.yaml")
	if err := os.WriteFile(file, []byte("not: a config"), 0o600); err != nil {
		t.Fatal(err)
	}
	if code := harness.run(t, "cluster", "create", "new", "--raw-config", file); code != exitOK {
		t.Fatalf("exit code %d: %s", code, harness.err)
	}
	if string(fake.options.Nodes[0].Config) != "not: a config" {
		t.Errorf("asked for %+v", fake.options)
	}
	if config, err := harness.loadConfig(); err != nil || len(config.Contexts) != 1 {
		t.Errorf("contexts %v, %v", config.Names(), err)
	}
}
