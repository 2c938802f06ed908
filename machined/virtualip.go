package main

import (
	"context"
	"time"

	"github.com/keelson-os/keelson/machined/etcd"
	"github.com/keelson-os/keelson/machined/network"
	"github.com/keelson-os/keelson/machined/supervise"
)

// virtualIPElection is what control-plane nodes are elected to hold.
const virtualIPElection = "virtual-ip"

// followVirtualIPs holds the cluster's virtual IPs whenever this node is elected
// to and its API server works.
func (n *node) followVirtualIPs() {
	addresses := n.config.Cluster.ControlPlane.VirtualIPs
	if len(addresses) == 0 {
		return
	}
	const part = "virtual IP"
	n.virtualIPs = n.background(n.watch, part, supervise.RestartTask, func(ctx context.Context) error {
		return network.KeepVirtualIP(ctx, network.VirtualIPOptions{
			Addresses: addresses,
			Campaign: func(ctx context.Context) (<-chan time.Time, error) {
				return etcd.Campaign(ctx, etcd.AdminSocket, virtualIPElection)
			},
			Healthy: n.kubernetes.OwnReady,
			Log:     n.log,
			Problem: func(err error) {
				if err != nil {
					n.problem(part, err)
				} else {
					n.solved(part)
				}
			},
		})
	})
}

// giveUpVirtualIPs waits until the addresses are gone from this node: only then
// does another take them, and etcd must run for it to hear of it.
func (n *node) giveUpVirtualIPs(ctx context.Context) {
	if n.virtualIPs == nil {
		return
	}
	select {
	case <-n.virtualIPs:
	case <-time.After(handOverTime):
	case <-ctx.Done():
	}
}
