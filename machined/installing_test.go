package main

import (
	"strings"
	"testing"
	"time"

	"github.com/keelson-os/keelson/pkg/machineconfig"
)

// A medium that was left in, or a boot server, must not erase a node of the cluster.
func TestMayReplace(t *testing.T) {
	config := func(cluster string) *machineconfig.Config {
		t.Helper()
		secrets, err := machineconfig.NewSecrets(cluster, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		c := machineconfig.Default()
		c.Machine.Type = machineconfig.ControlPlane
		c.Cluster.Name = cluster
		c.Cluster.Endpoint = "https://192.0.2.10:6443"
		c.Cluster.ControlPlane.Addresses = []machineconfig.Host{"192.0.2.10"}
		c.Secrets = secrets
		return c
	}
	n := testNode(t)
	defer n.console.close()
	n.config = config("home")
	same, other := *n.config, config("lab")
	same.Machine.Hostname = "renamed"
	for _, test := range []struct {
		kept *machineconfig.Config
		want string
	}{{&same, "it is of this cluster"}, {other, ""}} {
		text, err := machineconfig.Encode(test.kept)
		if err != nil {
			t.Fatal(err)
		}
		if err := n.mayReplace(text); (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v", test.kept.Cluster.Name, err)
		}
	}
	if err := n.mayReplace([]byte("half a conf")); err == nil {
		t.Error("a node whose config cannot be read may be erased")
	}
}
