package provision

import (
	"context"
	"fmt"
	"os"

	"github.com/keelson-os/keelson/pkg/provision/process"
	"github.com/keelson-os/keelson/pkg/provision/qemu"
)

// PowerCut ends a node's machine at once, as if its plug were pulled: what the
// guest had not flushed is lost to it. Start boots it again.
func (c *Cluster) PowerCut(ctx context.Context, node string) error {
	n, err := c.node(node)
	if err != nil {
		return err
	}
	unlock, err := c.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	return c.endNode(n)
}

// endNode ends a node's machine if it runs; the lock is held.
func (c *Cluster) endNode(n nodeSpec) error {
	running, err := findProcess(c.nodeFile(n.Name, nodeRef), c.nodeMark(n.Name))
	if err != nil || running == (process.Ref{}) {
		return err
	}
	if err := running.Kill(killTimeout); err != nil {
		return fmt.Errorf("cut the power of node %s: %w", n.Name, err)
	}
	return nil
}

// Start switches a node on; one that runs is left alone.
func (c *Cluster) Start(ctx context.Context, node string) error {
	n, err := c.node(node)
	if err != nil {
		return err
	}
	unlock, err := c.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	if err := c.checkPrepared(); err != nil {
		return err
	}
	return c.startNode(ctx, n)
}

// Pause freezes a node's CPUs: to the others it looks dead, but it does not know.
func (c *Cluster) Pause(ctx context.Context, node string) error {
	return c.execute(ctx, node, "stop")
}

// Resume lets a paused node go on.
func (c *Cluster) Resume(ctx context.Context, node string) error {
	return c.execute(ctx, node, "cont")
}

// Reset presses a node's reset button: like PowerCut and Start in one, with
// the same kernel and config.
func (c *Cluster) Reset(ctx context.Context, node string) error {
	return c.execute(ctx, node, "system_reset")
}

func (c *Cluster) execute(ctx context.Context, node, command string) error {
	n, err := c.node(node)
	if err != nil {
		return err
	}
	if err := qemu.Execute(ctx, qmpSocket(c.spec.RuntimeDir, n.Number), command, nil); err != nil {
		return fmt.Errorf("node %s: %w; does it run? osctl cluster status %s tells", node, err, c.Name())
	}
	return nil
}

// Config is the machine config that a node was given; it holds secrets.
func (c *Cluster) Config(node string) ([]byte, error) {
	n, err := c.node(node)
	if err != nil {
		return nil, err
	}
	if !n.HasConfig {
		return nil, fmt.Errorf("node %s was given no config", node)
	}
	return os.ReadFile(c.nodeFile(node, nodeConfig))
}
