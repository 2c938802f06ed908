package etcd

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/keelson-os/keelson/pkg/secretdir"
)

// Names below the data folder.
const (
	// memberDir is etcd's own: the write-ahead log and the database.
	memberDir = "member"
	// pendingFile exists from the moment a bootstrap is asked for until the new
	// cluster has answered its first read that needs a quorum.
	pendingFile = "bootstrap-pending"
)

// state is what the data folder says about this node's membership.
type state int

const (
	// empty: this node was never a member.
	empty state = iota
	// pending: a new cluster was asked for and has not answered yet.
	pending
	// formed: the node holds a cluster's data.
	formed
)

// decide tells the state from the two facts on disk. The pending file wins
// over data: etcd writes its log's head before the entry that makes it a
// voter, and a power cut between the two leaves a member that can never elect
// itself. Nothing was acknowledged to anyone while the file exists, so that
// such data can be thrown away and the bootstrap be done once more.
func decide(hasLog, hasPending bool) state {
	switch {
	case hasPending:
		return pending
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
	_, err = os.Lstat(filepath.Join(dir, pendingFile))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return empty, fmt.Errorf("look for a pending bootstrap in %s: %w", dir, err)
	}
	return decide(len(logs) > 0, err == nil), nil
}

// markPending makes the data folder and writes the pending file, durably: once
// it returns, the bootstrap happens even if the power fails now.
func markPending(dir string, owner secretdir.Owner) error {
	if err := secretdir.Make(dir, owner); err != nil {
		return err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return fmt.Errorf("open %s: %w", dir, err)
	}
	defer root.Close()
	file, err := root.OpenFile(pendingFile, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o444)
	if err != nil {
		return fmt.Errorf("note the bootstrap: %w", err)
	}
	if err := errors.Join(file.Sync(), file.Close()); err != nil {
		return fmt.Errorf("note the bootstrap: %w", err)
	}
	return errors.Join(syncDir(dir), syncDir(filepath.Dir(dir)))
}

// clearPending removes the pending file, durably. That it is gone already is
// no error.
func clearPending(dir string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return fmt.Errorf("open %s: %w", dir, err)
	}
	defer root.Close()
	err = root.Remove(pendingFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("note that the bootstrap is done: %w", err)
	}
	return syncDir(dir)
}

// discardMember throws away what an unfinished bootstrap left. The Root keeps
// links that the service may have made from leading out of the folder.
func discardMember(dir string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return fmt.Errorf("open %s: %w", dir, err)
	}
	defer root.Close()
	if err := root.RemoveAll(memberDir); err != nil {
		return fmt.Errorf("remove what an unfinished bootstrap left in %s: %w", dir, err)
	}
	return nil
}

// syncDir makes changes of names in a folder durable.
func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("open %s: %w", path, err)
	}
	if err := errors.Join(dir.Sync(), dir.Close()); err != nil {
		return fmt.Errorf("sync %s: %w", path, err)
	}
	return nil
}
