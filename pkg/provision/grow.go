package provision

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/keelson-os/keelson/pkg/provision/process"
)

// AddNodes adds nodes to a cluster and starts them; it does not wait for them to
// boot. A node without a name gets the cluster's and its number. configure
// returns the machine configs of the new nodes by name, for the layout with
// them in it. It needs the network for a moment: connections through the
// gateway break. If a node cannot be added, none is.
func (c *Cluster) AddNodes(ctx context.Context, nodes []Node, configure func(Layout) (map[string][]byte, error)) ([]NodeLayout, error) {
	unlock, err := c.lock(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	if err := c.checkPrepared(); err != nil {
		return nil, err
	}
	added, err := c.planMore(nodes, configure)
	if err != nil {
		return nil, err
	}
	if err := c.startMore(ctx, added); err != nil {
		return nil, errors.Join(fmt.Errorf("add nodes to cluster %s: %w", c.Name(), err), c.dropNodes(context.WithoutCancel(ctx), added))
	}
	layout, err := c.Layout()
	if err != nil {
		return nil, err
	}
	return layout.Nodes[len(layout.Nodes)-len(added):], nil
}

// planMore settles what the new nodes are and makes their folders. Nothing
// knows of them before cluster.json is written.
func (c *Cluster) planMore(nodes []Node, configure func(Layout) (map[string][]byte, error)) ([]nodeSpec, error) {
	planned := c.spec
	nodes = slices.Clone(nodes)
	for i := range nodes {
		if nodes[i].Name == "" {
			nodes[i].Name = fmt.Sprintf("%s-%d", c.Name(), planned.NextNumber+i+1)
		}
	}
	added, err := planned.planNodes(nodes)
	if err != nil {
		return nil, err
	}
	forwards, err := readForwards(c.dir)
	if err != nil {
		return nil, err
	}
	planned.Nodes = append(slices.Clone(planned.Nodes), added...)
	configs, err := configure(planned.layout(forwards))
	if err != nil {
		return nil, fmt.Errorf("make the machine configs: %w", err)
	}
	for i := range added {
		// What a crash left of an earlier try must not become this node's disk.
		if err := os.RemoveAll(c.nodeFile(added[i].Name, "")); err != nil {
			return nil, err
		}
		if err := c.prepareNode(&added[i], configs); err != nil {
			return nil, err
		}
	}
	c.spec.NextNumber = planned.NextNumber
	c.spec.Nodes = append(slices.Clone(c.spec.Nodes), added...)
	return added, nil
}

// startMore makes the network know the new nodes and starts them.
func (c *Cluster) startMore(ctx context.Context, added []nodeSpec) error {
	if err := c.saveSpec(); err != nil {
		return err
	}
	if err := c.restartNetwork(ctx); err != nil {
		return err
	}
	for _, n := range added {
		if err := c.startNode(ctx, n); err != nil {
			return err
		}
	}
	return nil
}

// RemoveNode ends a node's machine at once and removes all that belongs to it:
// what the other nodes know of it is not its business. Like AddNodes it needs
// the network for a moment.
func (c *Cluster) RemoveNode(ctx context.Context, name string) error {
	unlock, err := c.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	if err := c.checkPrepared(); err != nil {
		return err
	}
	n, err := c.node(name)
	if err != nil {
		return err
	}
	if len(c.spec.Nodes) == 1 {
		return fmt.Errorf("node %s is the only one of cluster %s: osctl cluster destroy %s removes both", name, c.Name(), c.Name())
	}
	if err := c.dropNodes(ctx, []nodeSpec{n}); err != nil {
		return fmt.Errorf("remove node %s: %w", name, err)
	}
	return nil
}

// dropNodes removes nodes. Their machines end first, and their folders go last:
// until then Destroy, or another try, finds everything.
func (c *Cluster) dropNodes(ctx context.Context, nodes []nodeSpec) error {
	for _, n := range nodes {
		if err := c.endNode(n); err != nil {
			return err
		}
	}
	c.spec.Nodes = slices.DeleteFunc(slices.Clone(c.spec.Nodes), func(n nodeSpec) bool {
		return slices.ContainsFunc(nodes, func(gone nodeSpec) bool { return gone.Name == n.Name })
	})
	if err := c.saveSpec(); err != nil {
		return err
	}
	if err := c.restartNetwork(ctx); err != nil {
		return err
	}
	for _, n := range nodes {
		if err := os.RemoveAll(c.nodeFile(n.Name, "")); err != nil {
			return err
		}
	}
	return nil
}

// restartNetwork makes the network process read cluster.json anew. The nodes
// find the new one by themselves, and links that were cut stay cut.
func (c *Cluster) restartNetwork(ctx context.Context) error {
	running, err := findProcess(filepath.Join(c.dir, networkRef), c.mark("network"))
	if err != nil {
		return err
	}
	if running != (process.Ref{}) {
		if err := running.Stop(killTimeout); err != nil {
			return fmt.Errorf("end the network process: %w", err)
		}
	}
	return c.startNetwork(ctx)
}
