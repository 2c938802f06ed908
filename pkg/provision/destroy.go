package provision

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/keelson-os/keelson/pkg/provision/process"
)

// killTimeout bounds how long a killed process may take to be gone: QEMU frees
// gigabytes and may be stuck in a disk write.
const killTimeout = 30 * time.Second

// Destroy ends a cluster's processes and removes all it had on disk. It needs
// nothing of the cluster's state to be in order, and it is no error if there is nothing left.
func Destroy(ctx context.Context, name string) error {
	dir, err := clusterDir(name)
	if err != nil {
		return err
	}
	unlock, err := lockDir(ctx, dir)
	if err == nil {
		defer unlock()
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return newCluster(dir, spec{Name: name}).remove()
}

// Destroy removes the cluster; the handle is of no use afterwards.
func (c *Cluster) Destroy(ctx context.Context) error { return Destroy(ctx, c.Name()) }

// remove does the work of Destroy; the lock is held.
func (c *Cluster) remove() error {
	if err := killMarked(c.dir); err != nil {
		return fmt.Errorf("destroy cluster %s: %w", c.Name(), err)
	}
	recorded := ""
	if s, err := readSpec(c.dir); err == nil {
		recorded = s.RuntimeDir
	}
	if err := removeRuntimeDirs(c.dir, recorded); err != nil {
		return fmt.Errorf("destroy cluster %s: %w", c.Name(), err)
	}
	if err := os.RemoveAll(c.dir); err != nil {
		return fmt.Errorf("destroy cluster %s: %w", c.Name(), err)
	}
	return nil
}

// killMarked ends every process of a cluster. It looks again until it finds
// none: a program that was killed while it started one may leave a late child.
func killMarked(dir string) error {
	for {
		found, err := process.Find(func(mark string) bool { return strings.HasPrefix(mark, markPrefix(dir)) })
		if err != nil || len(found) == 0 {
			return err
		}
		var group errgroup.Group
		for _, ref := range found {
			group.Go(func() error { return ref.Kill(killTimeout) })
		}
		if err := group.Wait(); err != nil {
			return err
		}
	}
}
