package etcd

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/keelson-os/keelson/machined/etcd/mark"
	"github.com/keelson-os/keelson/pkg/secretdir"
)

// Names below the data folder.
const (
	// memberDir is etcd's own: the write-ahead log and the database.
	memberDir = "member"
	// pendingMark is set from the moment a bootstrap is asked for until the new
	// cluster has answered its first read that needs a quorum. Its content is
	// the file of the snapshot to restore, if there is one.
	pendingMark = "bootstrap-pending"
	// joiningMark is set by the member itself while it has no vote yet.
	joiningMark = "join-pending"
	// removedMark is set by the member when it was removed from the cluster.
	removedMark = "removed"
	// recoverFile is the snapshot that a pending bootstrap restores, and
	// incomingFile one that is not known to be good yet.
	recoverFile  = "recover.db"
	incomingFile = "recover.incoming"
)

// state is what the data folder says about this node's membership.
type state int

const (
	// empty: this node is no member, or has only begun to join.
	empty state = iota
	// pending: a new cluster was asked for and has not answered yet.
	pending
	// formed: the node holds a cluster's data.
	formed
	// removed: the cluster has removed this node's member.
	removed
)

// decide tells the state from the facts on disk. The pending mark wins
// over data: etcd writes its log's head before the entry that makes it a
// voter, and a power cut between the two leaves a member that can never elect
// itself. Nothing was acknowledged to anyone while the mark is set, so that
// such data can be thrown away and the bootstrap be done once more.
func decide(hasLog, hasPending, hasRemoved bool) state {
	switch {
	case hasPending:
		return pending
	case hasRemoved:
		return removed
	case hasLog:
		return formed
	default:
		return empty
	}
}

// read returns the state of the data folder at dir.
func read(dir string) (state, error) {
	logs, err := filepath.Glob(filepath.Join(dir, memberDir, "wal", "*.wal"))
	if err != nil {
		return empty, fmt.Errorf("look for etcd data in %s: %w", dir, err)
	}
	_, hasPending, err := mark.Get(dir, pendingMark)
	if err != nil {
		return empty, err
	}
	_, hasRemoved, err := mark.Get(dir, removedMark)
	if err != nil {
		return empty, err
	}
	return decide(len(logs) > 0, hasPending, hasRemoved), nil
}

// markPending makes the data folder and sets the pending mark: once it returns,
// the bootstrap happens even if the power fails now.
func markPending(dir, snapshot string, owner secretdir.Owner) error {
	if err := secretdir.Make(dir, owner); err != nil {
		return err
	}
	if err := mark.Set(dir, pendingMark, snapshot); err != nil {
		return err
	}
	return mark.SyncDir(filepath.Dir(dir))
}

// clearPending clears the pending mark, then the snapshot that it spoke of.
func clearPending(dir string) error {
	if err := mark.Clear(dir, pendingMark); err != nil {
		return err
	}
	return discard(dir, recoverFile)
}

// discard removes something in the data folder. The Root keeps links that the
// service may have made from leading out of the folder.
func discard(dir string, names ...string) error {
	root, err := os.OpenRoot(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("open %s: %w", dir, err)
	}
	defer root.Close()
	for _, name := range names {
		if err := root.RemoveAll(name); err != nil {
			return fmt.Errorf("remove %s in %s: %w", name, dir, err)
		}
	}
	return nil
}
