package main

import (
	"github.com/keelson-os/keelson/machined/kubernetes"
	"github.com/keelson-os/keelson/pkg/machineconfig"
)

// podNetworkModules are the kernel modules of the network between the nodes'
// pods. What the config does not ask for stays out of the kernel.
func podNetworkModules(config *machineconfig.Config) []string {
	if config == nil {
		return nil
	}
	switch network := config.Cluster.Network; {
	case network.CNI == machineconfig.CNINone:
		// What add-ons use unless told otherwise. They run in containers and
		// cannot load modules by themselves: the image has no modprobe.
		return []string{"vxlan", "geneve"}
	case network.Backend == machineconfig.BackendVXLAN:
		return []string{"vxlan"}
	case network.Backend == machineconfig.BackendWireGuard:
		return []string{"wireguard"}
	}
	return nil // host-gw: routes
}

// podNetworkUser is who tells containerd of the pod network; "" leaves it to an
// add-on.
func podNetworkUser(config *machineconfig.Config) string {
	if config.Cluster.Network.CNI == machineconfig.CNINone {
		return ""
	}
	return kubernetes.Flannel
}
