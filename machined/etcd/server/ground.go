package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"

	"go.etcd.io/etcd/server/v3/embed"

	"github.com/keelson-os/keelson/machined/etcd/mark"
)

// ground prepares what the member starts from: data that there is, a new
// cluster, a snapshot, or a cluster to join. It starts no cluster that nobody
// asked for: a node that lost its data must not come back as one of its own.
// Restarted is that there is data of a member that ran.
func (a *admin) ground(ctx context.Context, config *embed.Config) (restarted bool, err error) {
	f := a.flags
	if _, removed, err := mark.Get(filepath.Split(f.removed)); err != nil || removed {
		return false, cmp.Or(err, errRemoved)
	}
	if has, err := f.hasLog(); err != nil || has {
		return has, err
	}
	snapshot, asked, err := mark.Get(filepath.Split(f.bootstrapIf))
	if err != nil {
		return false, err
	}
	others, err := f.joinURLs()
	if err != nil {
		return false, err
	}
	if !asked && len(others) == 0 {
		return false, fmt.Errorf("no data in %s, no bootstrap asked for, and nobody to join", f.dataDir)
	}
	// Whatever is there without a log was cut short before anyone heard of it.
	if err := os.RemoveAll(filepath.Join(f.dataDir, memberDir)); err != nil {
		return false, fmt.Errorf("clear what an earlier start left: %w", err)
	}
	switch {
	case asked && snapshot != "":
		a.tell("a snapshot is being restored")
		return false, a.restore(filepath.Join(f.dataDir, filepath.Base(snapshot)))
	case asked:
		config.ClusterState = embed.ClusterStateFlagNew
		config.InitialCluster = config.InitialClusterFromName(f.name)
		config.InitialClusterToken = f.newToken()
	default:
		config.ClusterState = embed.ClusterStateFlagExisting
		config.InitialCluster, err = a.join(ctx, others)
		a.tell("this node was added to the cluster and starts")
	}
	return false, err
}

// memberDir is etcd's own folder in the data folder.
const memberDir = "member"

// hasLog tells whether a member has run here.
func (f *flags) hasLog() (bool, error) {
	logs, err := filepath.Glob(filepath.Join(f.dataDir, memberDir, "wal", "*.wal"))
	if err != nil {
		return false, fmt.Errorf("look for data in %s: %w", f.dataDir, err)
	}
	return len(logs) > 0, nil
}

// newToken makes IDs of a new cluster and its member that no other has. From
// the cluster's own token alone, a node that is bootstrapped once more would
// get the IDs of before, and members of then would take it for its old self.
func (f *flags) newToken() string { return f.clusterToken + "-" + rand.Text() }
