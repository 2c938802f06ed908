package provision

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// ErrNotFound means that there is no cluster of that name.
var ErrNotFound = errors.New("no such cluster")

// Cluster is a handle on a cluster's folder. Any number of programs may hold
// one; those that change the cluster take turns.
type Cluster struct {
	dir      string
	spec     spec
	progress func(Event)
}

// List names the user's clusters, those included that were never made completely.
func List() ([]string, error) {
	dir, err := Dir()
	if err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("list clusters: %w", err)
	}
	var names []string
	for _, entry := range entries {
		if entry.IsDir() && label.MatchString(entry.Name()) {
			names = append(names, entry.Name())
		}
	}
	return names, nil
}

// Open returns an existing cluster, running or not, or ErrNotFound.
func Open(name string) (*Cluster, error) {
	dir, err := clusterDir(name)
	if err != nil {
		return nil, err
	}
	if !isFolder(dir) {
		return nil, fmt.Errorf("cluster %s: %w", name, ErrNotFound)
	}
	s, err := readSpec(dir)
	if err != nil {
		return nil, fmt.Errorf("cluster %s is not complete: %w; run osctl cluster destroy %s", name, err, name)
	}
	return newCluster(dir, s), nil
}

func newCluster(dir string, s spec) *Cluster {
	return &Cluster{dir: dir, spec: s, progress: func(Event) {}}
}

// Name is the cluster's name.
func (c *Cluster) Name() string { return c.spec.Name }

// Dir is the cluster's folder.
func (c *Cluster) Dir() string { return c.dir }

// Layout is where the nodes are and how the host reaches them.
func (c *Cluster) Layout() (Layout, error) {
	forwards, err := readForwards(c.dir)
	if err != nil {
		return Layout{}, fmt.Errorf("find the forwards of cluster %s: %w", c.Name(), err)
	}
	return c.latest().layout(forwards), nil
}

// OnProgress sets who is told of the steps of Up.
func (c *Cluster) OnProgress(f func(Event)) { c.progress = f }

func (c *Cluster) tell(node, format string, args ...any) {
	c.progress(Event{Node: node, Message: fmt.Sprintf(format, args...)})
}

// lock takes the cluster's lock; a cluster that was destroyed meanwhile has none.
func (c *Cluster) lock(ctx context.Context) (unlock func(), err error) {
	unlock, err = lockDir(ctx, c.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("cluster %s: %w", c.Name(), ErrNotFound)
	}
	return unlock, err
}

// latest is what the cluster is now: another program may have added nodes since
// Open. A cluster that is being made, or is gone, is as this handle knows it.
func (c *Cluster) latest() spec {
	if s, err := readSpec(c.dir); err == nil {
		return s
	}
	return c.spec
}

// node finds a node by name.
func (c *Cluster) node(name string) (nodeSpec, error) {
	var names []string
	for _, n := range c.latest().Nodes {
		if n.Name == name {
			return n, nil
		}
		names = append(names, n.Name)
	}
	return nodeSpec{}, fmt.Errorf("cluster %s has no node %s; its nodes: %v", c.Name(), name, names)
}

// nodeFile is the path of one of a node's files.
func (c *Cluster) nodeFile(node, file string) string {
	return filepath.Join(c.dir, nodesDir, node, file)
}

// Console is the file that holds the newest output of a node's serial console;
// what came before is in the file of the same name with ".old" behind it.
func (c *Cluster) Console(node string) string { return c.nodeFile(node, nodeConsole) }
