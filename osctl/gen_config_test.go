package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/keelson-os/keelson/pkg/client"
	"github.com/keelson-os/keelson/pkg/machineconfig"
)

func TestGenMakesWhatNodesAndTheClientTake(t *testing.T) {
	harness := newHarness(t, nil)
	dir := t.TempDir()
	secrets := filepath.Join(dir, "secrets.yaml")
	if code := harness.run(t, "gen", "secrets", "prod", "-f", secrets); code != exitOK {
		t.Fatalf("exit code %d: %s", code, harness.err)
	}
	args := []string{"gen", "config", "prod", "--secrets", secrets, "--control-plane", "10.0.0.5,10.0.0.6", "--output-dir", dir, "--install-disk", "/dev/nvme0n1"}
	if code := harness.run(t, args...); code != exitOK {
		t.Fatalf("exit code %d: %s", code, harness.err)
	}
	for name, want := range map[string]string{"controlplane.yaml": machineconfig.ControlPlane, "worker.yaml": machineconfig.Worker} {
		path := filepath.Join(dir, name)
		file, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		if info, err := file.Stat(); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: mode %v, %v", name, info.Mode(), err)
		}
		config, err := machineconfig.Decode(name, file)
		if err != nil {
			t.Fatal(err)
		}
		if config.Machine.Type != want || config.Machine.Install.Disk != "/dev/nvme0n1" || config.Cluster.Endpoint != "https://10.0.0.5:6443" {
			t.Errorf("%s: %+v %+v", name, config.Machine, config.Cluster)
		}
	}
	config, err := client.LoadConfig(filepath.Join(dir, "osctl.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if context, err := config.Get(""); err != nil || len(context.Endpoints) != 2 || context.Endpoints[1] != "10.0.0.6:50000" {
		t.Errorf("%+v, %v", context, err)
	}
	harness.fails(t, exitError, []string{"controlplane.yaml exists already", "--force"}, args...)
	harness.fails(t, exitError, []string{"secrets.yaml exists already"}, "gen", "secrets", "prod", "-f", secrets)
	if code := harness.run(t, append(args, "--force")...); code != exitOK {
		t.Errorf("with --force: exit code %d: %s", code, harness.err)
	}
}

func TestGenConfigRefusesWhatNoNodeWouldTake(t *testing.T) {
	harness := newHarness(t, nil)
	dir := t.TempDir()
	harness.fails(t, exitUsage, []string{"--control-plane is required"}, "gen", "config", "prod")
	harness.fails(t, exitError, []string{"expected an IP address or a DNS name"}, "gen", "config", "prod", "--control-plane", "node_1", "--output-dir", dir)
	harness.fails(t, exitError, []string{"cluster.name: expected a DNS label"}, "gen", "config", "Prod_1", "--control-plane", "10.0.0.5", "--output-dir", dir)
	harness.fails(t, exitError, []string{"overlaps cluster.network.podSubnet"}, "gen", "config", "prod", "--control-plane", "10.244.0.5", "--output-dir", dir)
	harness.fails(t, exitError, []string{"none.yaml"}, "gen", "config", "prod", "--control-plane", "10.0.0.5", "--secrets", "none.yaml", "--output-dir", dir)
	if left, _ := os.ReadDir(dir); len(left) != 0 {
		t.Errorf("wrote %v", left)
	}
}
