package etcd

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/keelson-os/keelson/machined/etcd/mark"
	"github.com/keelson-os/keelson/pkg/secretdir"
)

const (
	// maxSnapshot bounds what is taken, in bytes: etcd's quota, and what its
	// database may be larger than that.
	maxSnapshot = 4<<30 + 512<<20
	// checkTime bounds the check of a snapshot of that size on a slow disk.
	checkTime = 10 * time.Minute
	// maxChecked bounds what the check may say, in bytes.
	maxChecked = 64 << 10
)

var (
	// ErrSnapshot begins every error that is the snapshot's fault.
	ErrSnapshot = errors.New("recovery refused")
	// ErrRecovering refuses a second recovery while one comes in.
	ErrRecovering = errors.New("recovery refused: another snapshot is being taken in")
)

// Recover makes this node the first member of a new cluster that holds what the
// snapshot holds. As with Bootstrap, once it returns that is certain to happen;
// until then, nothing has changed. What refuses a bootstrap refuses it too, and
// so does a snapshot that is not whole or of another version (ErrSnapshot).
func (s *Service) Recover(ctx context.Context, snapshot io.Reader) (revision, keys int64, err error) {
	if !s.recovering.TryLock() {
		return 0, 0, ErrRecovering
	}
	defer s.recovering.Unlock()
	if err := s.mayBootstrap(ctx); err != nil {
		return 0, 0, err
	}
	owner, err := s.owner()
	if err != nil {
		return 0, 0, err
	}
	dir := s.options.DataDir
	if err := secretdir.Make(dir, owner); err != nil {
		return 0, 0, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, discard(dir, incomingFile))
		}
	}()
	if err := takeIn(dir, owner, snapshot); err != nil {
		return 0, 0, err
	}
	found, err := s.checkSnapshot(ctx, filepath.Join(dir, incomingFile), owner)
	if err != nil {
		return 0, 0, err
	}
	if err := rename(dir, incomingFile, recoverFile); err != nil {
		return 0, 0, err
	}
	if err := s.bootstrap(recoverFile); err != nil {
		return 0, 0, errors.Join(err, discard(dir, recoverFile))
	}
	return found.Revision, found.Keys, nil
}

// takeIn writes the snapshot to disk, durably, for the service's user to read.
func takeIn(dir string, owner secretdir.Owner, snapshot io.Reader) error {
	if err := discard(dir, incomingFile); err != nil {
		return err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return fmt.Errorf("open %s: %w", dir, err)
	}
	defer root.Close()
	file, err := root.OpenFile(incomingFile, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o400)
	if err != nil {
		return fmt.Errorf("keep the snapshot: %w", err)
	}
	size, err := io.Copy(file, io.LimitReader(snapshot, maxSnapshot+1))
	if size > maxSnapshot {
		err = errors.Join(err, fmt.Errorf("%w: the snapshot is larger than the %d bytes that etcd could hold", ErrSnapshot, int64(maxSnapshot)))
	}
	err = errors.Join(err, file.Chown(owner.UID, owner.GID), file.Sync(), file.Close())
	if errors.Is(err, syscall.ENOSPC) {
		return fmt.Errorf("the disk has no room for the snapshot: %w", err)
	}
	if err != nil {
		return fmt.Errorf("keep the snapshot: %w", err)
	}
	return nil
}

// checked is what the etcd program says of a snapshot.
type checked struct {
	Revision int64  `json:"revision"`
	Keys     int64  `json:"keys"`
	Refused  string `json:"refused"`
}

// checkSnapshot has the etcd program look at the snapshot, as the service's
// user: PID 1 does not read databases that strangers made.
func (s *Service) checkSnapshot(ctx context.Context, path string, owner secretdir.Owner) (checked, error) {
	ctx, cancel := context.WithTimeout(ctx, checkTime)
	defer cancel()
	command := exec.CommandContext(ctx, s.options.Program, "check-snapshot", path)
	command.WaitDelay = time.Second
	command.Dir = "/"
	if owner.UID != os.Getuid() {
		command.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(owner.UID), Gid: uint32(owner.GID)}}
	}
	said, complained := &bounded{}, &bounded{}
	command.Stdout, command.Stderr = said, complained
	if err := command.Run(); err != nil {
		return checked{}, fmt.Errorf("check the snapshot: %w: %s", err, strings.Join(strings.Fields(complained.String()), " "))
	}
	var found checked
	if err := json.Unmarshal(said.Bytes(), &found); err != nil {
		return checked{}, fmt.Errorf("read what the check of the snapshot says: %w", err)
	}
	if found.Refused != "" {
		return checked{}, fmt.Errorf("%w: %s", ErrSnapshot, found.Refused)
	}
	return found, nil
}

// bounded keeps the beginning of what is written to it.
type bounded struct{ bytes.Buffer }

func (b *bounded) Write(data []byte) (int, error) {
	b.Buffer.Write(data[:min(len(data), maxChecked-b.Len())])
	return len(data), nil
}

// rename gives a file in the data folder its name, durably.
func rename(dir, from, to string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return fmt.Errorf("open %s: %w", dir, err)
	}
	defer root.Close()
	if err := root.Remove(to); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("make room for %s: %w", to, err)
	}
	if err := root.Rename(from, to); err != nil {
		return fmt.Errorf("keep the snapshot as %s: %w", to, err)
	}
	return mark.SyncDir(dir)
}
