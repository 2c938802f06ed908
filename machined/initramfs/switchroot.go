package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/keelson-os/keelson/machined/host"
)

// switchRoot makes newRoot the root, gives the initramfs's memory back, and
// becomes machined. It only returns when that did not work.
func switchRoot(machine host.OS) error {
	for _, mount := range []string{"/dev", "/proc", "/sys"} {
		if err := machine.Mount(mount, newRoot+mount, "", unix.MS_MOVE, ""); err != nil {
			return fmt.Errorf("move the mount %s to %s%s: %w", mount, newRoot, mount, err)
		}
	}
	if err := os.Chdir(newRoot); err != nil {
		return err
	}
	if err := freeInitramfs(); err != nil {
		say(errorLevel, "%v", err) // costs memory, not the boot
	}
	// The initramfs cannot be unmounted; the new root is moved on top of it.
	if err := machine.Mount(".", "/", "", unix.MS_MOVE, ""); err != nil {
		return fmt.Errorf("move %s to /: %w", newRoot, err)
	}
	if err := unix.Chroot("."); err != nil {
		return fmt.Errorf("change the root: %w", err)
	}
	if err := os.Chdir("/"); err != nil {
		return err
	}
	return fmt.Errorf("run %s: %w", initProgram, unix.Exec(initProgram, []string{initProgram}, os.Environ()))
}

// freeInitramfs deletes everything in the initramfs, which lives in memory.
func freeInitramfs() error {
	var st unix.Statfs_t
	if err := unix.Statfs("/", &st); err != nil {
		return fmt.Errorf("look at the initramfs: %w", err)
	}
	if st.Type != unix.RAMFS_MAGIC && st.Type != unix.TMPFS_MAGIC {
		return errors.New("the first root is not an initramfs: its files are kept")
	}
	return removeBelow("/")
}

// removeBelow deletes what is in dir, except other file systems mounted in it.
func removeBelow(dir string) error {
	var own unix.Stat_t
	if err := unix.Lstat(dir, &own); err != nil {
		return fmt.Errorf("look at %s: %w", dir, err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	var failed []error
	for _, entry := range entries {
		path := filepath.Join(dir, entry.Name())
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil || st.Dev != own.Dev {
			continue
		}
		if entry.IsDir() {
			failed = append(failed, removeBelow(path))
		}
		// A directory that holds a mount stays, and says so here.
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.ENOTEMPTY) && !errors.Is(err, unix.EBUSY) {
			failed = append(failed, err)
		}
	}
	return errors.Join(failed...)
}
