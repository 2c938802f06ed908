package main

import (
	"strings"
	"testing"

	"github.com/keelson-os/keelson/pkg/client"
	"github.com/keelson-os/keelson/pkg/provision"
)

func TestCommandsOnClustersThatAreNotThere(t *testing.T) {
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	harness := newHarness(t, nil)
	harness.fails(t, exitError, []string{`no cluster "x"`, "osctl cluster create"}, "cluster", "status", "x")
	harness.fails(t, exitError, []string{`no cluster "x"`}, "cluster", "start", "x")
	harness.fails(t, exitOK, []string{"no clusters yet"}, "cluster", "list")
	// "dev" has a context that leads to this machine: a crash left it behind.
	if code := harness.run(t, "cluster", "destroy", "dev"); code != exitOK || !strings.Contains(harness.out.String(), "there was no cluster dev") {
		t.Errorf("exit code %d: %s%s", code, harness.out, harness.err)
	}
	if config, err := harness.loadConfig(); err != nil || len(config.Contexts) != 0 || config.Current != "" {
		t.Errorf("contexts %v, %v", config.Names(), err)
	}
}

func TestDestroySparesTheContextOfAnotherCluster(t *testing.T) {
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	for name, change := range map[string]func(*client.Context){
		"elsewhere":        func(context *client.Context) { context.Endpoints[0] = "10.0.0.5:50000" },
		"through a tunnel": func(context *client.Context) { context.Kubernetes = "" },
	} {
		harness := newHarness(t, nil)
		path, err := harness.configPath()
		if err != nil {
			t.Fatal(err)
		}
		if err := client.UpdateConfig(path, func(config *client.Config) error { change(config.Contexts["dev"]); return nil }); err != nil {
			t.Fatal(err)
		}
		harness.fails(t, exitOK, nil, "cluster", "destroy", "dev")
		if config, err := harness.loadConfig(); err != nil || len(config.Contexts) != 1 {
			t.Errorf("%s: contexts %v, %v", name, config.Names(), err)
		}
	}
}

func TestMachineState(t *testing.T) {
	node := func(state string) provision.NodeStatus { return provision.NodeStatus{State: state} }
	for want, status := range map[string]provision.Status{
		"incomplete": {NetworkPID: 1, Nodes: []provision.NodeStatus{node("running")}},
		"off":        {Prepared: true, Nodes: []provision.NodeStatus{node("off")}},
		"running":    {Prepared: true, NetworkPID: 1, Nodes: []provision.NodeStatus{node("running"), node("running")}},
		"degraded":   {Prepared: true, NetworkPID: 1, Nodes: []provision.NodeStatus{node("running"), node("paused")}},
	} {
		if got := machineState(status); got != want {
			t.Errorf("%+v: %s, want %s", status, got, want)
		}
	}
}
