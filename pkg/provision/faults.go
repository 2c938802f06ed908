package provision

import (
	"context"
	"time"

	"github.com/keelson-os/keelson/pkg/provision/vnet"
)

// Gateway is the name by which fault rules know the gateway, over which the
// host reaches the nodes.
const Gateway = vnet.GatewayPort

// SetFaults adds fault rules to the network, all at once. Ports are node
// names, Gateway or vnet.AnyPort. Rules last until they are healed.
func (c *Cluster) SetFaults(ctx context.Context, rules ...vnet.FaultRule) error {
	for _, r := range rules {
		for _, port := range []string{r.From, r.To} {
			if port == Gateway || port == vnet.AnyPort {
				continue
			}
			if _, err := c.node(port); err != nil {
				return err
			}
		}
	}
	return c.control().setFaults(ctx, rules)
}

// Cut drops every frame from one port to another; the way back stays open.
func (c *Cluster) Cut(ctx context.Context, from, to string) error {
	return c.SetFaults(ctx, vnet.FaultRule{From: from, To: to, Fault: vnet.Fault{Cut: true}})
}

// Delay holds every frame from one port to another for a time.
func (c *Cluster) Delay(ctx context.Context, from, to string, by time.Duration) error {
	return c.SetFaults(ctx, vnet.FaultRule{From: from, To: to, Fault: vnet.Fault{Delay: by}})
}

// Drop loses a share of the frames from one port to another.
func (c *Cluster) Drop(ctx context.Context, from, to string, percent float64) error {
	return c.SetFaults(ctx, vnet.FaultRule{From: from, To: to, Fault: vnet.Fault{DropPercent: percent}})
}

// Partition cuts, both ways, every link between nodes of different groups.
// Ports in no group keep theirs: the host still reaches the nodes unless Gateway is in one.
func (c *Cluster) Partition(ctx context.Context, groups ...[]string) error {
	return c.SetFaults(ctx, vnet.PartitionRules(groups...)...)
}

// Heal removes every fault rule.
func (c *Cluster) Heal(ctx context.Context) error { return c.control().heal(ctx) }
