package main

import (
	"slices"
	"testing"

	"github.com/keelson-os/keelson/pkg/machineconfig"
)

func TestPodNetworkModules(t *testing.T) {
	for _, c := range []struct {
		cni, backend string
		want         []string
	}{
		{machineconfig.CNIFlannel, machineconfig.BackendVXLAN, []string{"vxlan"}},
		{machineconfig.CNIFlannel, machineconfig.BackendHostGW, nil},
		{machineconfig.CNIFlannel, machineconfig.BackendWireGuard, []string{"wireguard"}},
		{machineconfig.CNINone, machineconfig.BackendVXLAN, []string{"vxlan", "geneve"}},
	} {
		config := &machineconfig.Config{Cluster: &machineconfig.Cluster{Network: machineconfig.ClusterNetwork{CNI: c.cni, Backend: c.backend}}}
		if got := podNetworkModules(config); !slices.Equal(got, c.want) {
			t.Errorf("%s, %s: %q, want %q", c.cni, c.backend, got, c.want)
		}
	}
	if got := podNetworkModules(nil); got != nil {
		t.Errorf("in maintenance: %q", got)
	}
}
