package main

import (
	"slices"
	"testing"
)

func TestServiceActions(t *testing.T) {
	harness, node := newServicesHarness(t)
	for action, want := range map[string]string{"start": "started", "stop": "stopped", "restart": "restarted"} {
		node.did = nil
		if code := harness.run(t, "service", "etcd", action); code != exitOK || harness.out.String() != "service etcd "+want+"\n" {
			t.Errorf("%s: exit code %d, %s%s", action, code, harness.out, harness.err)
		}
		if !slices.Equal(node.did, []string{action + " etcd"}) {
			t.Errorf("%s: the node did %q", action, node.did)
		}
	}
	harness.fails(t, exitError, []string{"there are: etcd, kubelet"}, "service", "nginx", "restart")
}
