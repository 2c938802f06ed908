package provision

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// EmptyDisk gives a node that does not run a new disk in place of its own: all
// that the node kept is lost, as when a disk was replaced.
func (c *Cluster) EmptyDisk(node string) error {
	n, err := c.node(node)
	if err != nil {
		return err
	}
	if runningPID(c.nodeFile(n.Name, nodeRef)) != 0 {
		return fmt.Errorf("node %s runs: cut its power before its disk is replaced", n.Name)
	}
	disk := c.nodeFile(n.Name, nodeDisk)
	if err := os.Remove(disk); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove the disk of node %s: %w", n.Name, err)
	}
	return c.makeNodeDisk(n)
}
