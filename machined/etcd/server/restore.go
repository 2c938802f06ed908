package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	etcdsnapshot "go.etcd.io/etcd/etcdutl/v3/snapshot"

	"github.com/keelson-os/keelson/machined/etcd/mark"
)

const (
	// restoringDir holds a member that is being made from a snapshot.
	restoringDir = "restoring"
	// revisionBump is how far the store's revision jumps ahead of the
	// snapshot's, so that no client that watched the old cluster is told less
	// than it has seen: a thousand writes a second for a week are fewer.
	revisionBump = 1_000_000_000
)

// restore makes this node's member, the only one of a new cluster, from a
// snapshot. All that was before the jump counts as compacted: watchers must
// list anew.
func (a *admin) restore(file string) error {
	f := a.flags
	dir := filepath.Join(f.dataDir, restoringDir)
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("clear what an earlier restore left: %w", err)
	}
	err := etcdsnapshot.NewV3(a.log).Restore(etcdsnapshot.RestoreConfig{
		SnapshotPath: file, OutputDataDir: dir,
		Name: f.name, PeerURLs: []string{f.peer}, InitialCluster: f.name + "=" + f.peer, InitialClusterToken: f.newToken(),
		RevisionBump: revisionBump, MarkCompacted: true,
	})
	if err != nil {
		return fmt.Errorf("restore the snapshot: %w", err)
	}
	if err := syncTree(dir); err != nil {
		return err
	}
	if err := os.Rename(filepath.Join(dir, memberDir), filepath.Join(f.dataDir, memberDir)); err != nil {
		return fmt.Errorf("put the restored data in its place: %w", err)
	}
	return errors.Join(mark.SyncDir(f.dataDir), os.RemoveAll(dir))
}

// syncTree makes files and their names durable.
func syncTree(dir string) error {
	return filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return fmt.Errorf("sync the restored data: %w", err)
		}
		return mark.SyncDir(path)
	})
}
