package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/keelson-os/keelson/pkg/snapshot"
)

const (
	// partial ends the name of a snapshot that is being written.
	partial = ".part"
	// storedMark ends the name of an empty file that says of a snapshot that the
	// store has it.
	storedMark = ".stored"
	// syncEvery is how much is written at most before the disk gets it, in bytes:
	// etcd's own writes must not wait behind all of a snapshot.
	syncEvery = 8 << 20
)

// pinned is the database as it was at one moment. While it is open, pages that
// become free are not used again.
type pinned interface {
	Size() int64
	WriteTo(io.Writer) (int64, error)
	Close() error
}

// writeSnapshot makes the file name in dir, all at once: it has that name only
// when it was read back and found whole.
func writeSnapshot(ctx context.Context, dir, name string, data pinned) (err error) {
	temporary := filepath.Join(dir, name+partial)
	file, err := os.OpenFile(temporary, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("make a file for the snapshot: %w", err)
	}
	defer func() {
		err = errors.Join(err, file.Close())
		if err != nil {
			_ = os.Remove(temporary)
		}
	}()
	out := snapshot.NewWriter(&steadyWriter{ctx: ctx, file: file})
	if _, err := data.WriteTo(out); err != nil {
		return fmt.Errorf("write the snapshot: %w", err)
	}
	if err := errors.Join(out.Finish(), file.Sync()); err != nil {
		return fmt.Errorf("write the snapshot: %w", err)
	}
	if _, err := checkFile(ctx, file); err != nil {
		return fmt.Errorf("read the new snapshot back: %w", err)
	}
	if err := os.Rename(temporary, filepath.Join(dir, name)); err != nil {
		return fmt.Errorf("name the snapshot: %w", err)
	}
	return syncDir(dir)
}

// steadyWriter writes to a file that is synced now and then, until ctx ends.
type steadyWriter struct {
	ctx     context.Context
	file    *os.File
	pending int
}

func (w *steadyWriter) Write(data []byte) (int, error) {
	if err := w.ctx.Err(); err != nil {
		return 0, err
	}
	count, err := w.file.Write(data)
	if w.pending += count; err == nil && w.pending >= syncEvery {
		w.pending = 0
		err = w.file.Sync()
	}
	return count, err
}

// checkFile reads a snapshot from the disk and tells whether it is whole.
func checkFile(ctx context.Context, file *os.File) (snapshot.Sum, error) {
	info, err := file.Stat()
	if err != nil {
		return snapshot.Sum{}, err
	}
	forget(file)
	defer forget(file)
	return snapshot.Check(contextReader{ctx, io.NewSectionReader(file, 0, info.Size())}, info.Size())
}

// contextReader reads until ctx ends.
type contextReader struct {
	ctx context.Context
	io.Reader
}

func (r contextReader) Read(buffer []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.Reader.Read(buffer)
}

// readSnapshots lists the snapshots in dir, in no order, and unread. Without a
// folder there are none.
func readSnapshots(dir string) ([]kept, error) {
	if dir == "" {
		return nil, nil
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("list the snapshots: %w", err)
	}
	marked := map[string]bool{}
	for _, entry := range entries {
		if name, ok := strings.CutSuffix(entry.Name(), storedMark); ok {
			marked[name] = true
		}
	}
	var list []kept
	for _, entry := range entries {
		one, ours := parseName(entry.Name())
		if !ours || !entry.Type().IsRegular() {
			continue
		}
		info, err := entry.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue // removed meanwhile
		}
		if err != nil {
			return nil, fmt.Errorf("list the snapshots: %w", err)
		}
		one.size, one.stored = info.Size(), marked[one.name]
		list = append(list, one)
	}
	return list, nil
}

// removeSnapshot removes a snapshot and what is noted of it.
func removeSnapshot(dir, name string) error {
	for _, each := range []string{name, name + storedMark} {
		if err := os.Remove(filepath.Join(dir, each)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove an old snapshot: %w", err)
		}
	}
	return nil
}

// markStored notes that the store has a snapshot.
func markStored(dir, name string) error {
	if err := os.WriteFile(filepath.Join(dir, name+storedMark), nil, 0o600); err != nil {
		return fmt.Errorf("note that a snapshot was sent: %w", err)
	}
	return nil
}

// tidy removes what a process that was killed left: snapshots that were not
// finished, and notes of ones that are gone.
func tidy(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("look for unfinished snapshots: %w", err)
	}
	names := map[string]bool{}
	for _, entry := range entries {
		names[entry.Name()] = true
	}
	for name := range names {
		for _, suffix := range []string{partial, storedMark} {
			snapshot, has := strings.CutSuffix(name, suffix)
			if _, ours := parseName(snapshot); !has || !ours || suffix == storedMark && names[snapshot] {
				continue
			}
			if err := os.Remove(filepath.Join(dir, name)); err != nil {
				return fmt.Errorf("remove what is left of a snapshot: %w", err)
			}
		}
	}
	return nil
}

// syncDir makes changes of names in a folder durable.
func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
