package main

import "github.com/keelson-os/keelson/pkg/api/cluster"

// Nodes implements api.Cluster.
func (c *clusterView) Nodes() []*cluster.Node {
	var nodes []*cluster.Node
	for _, each := range c.kubernetes.Nodes() {
		node := &cluster.Node{
			Name: each.Name, ControlPlane: each.ControlPlane, Ready: each.Ready, Message: each.Message,
			Version: each.Version, Unschedulable: each.Unschedulable,
		}
		for _, address := range each.Addresses {
			node.Addresses = append(node.Addresses, address.String())
		}
		nodes = append(nodes, node)
	}
	return nodes
}
