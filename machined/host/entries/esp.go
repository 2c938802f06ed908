package entries

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/keelson-os/keelson/machined/host"
	"github.com/keelson-os/keelson/pkg/osdisk"
)

// MountPoint is where the ESP is mounted while something is done to it. It is
// not longer: a power cut finds it clean, and no service sees it.
const MountPoint = "/run/keelson/esp"

// Modules are those that WithESP needs; the kernel asks for its character sets by
// itself, and finds no program that could load them.
var Modules = []string{"vfat", "nls_cp437", "nls_ascii"}

// WithESP mounts the ESP, a device node, while do runs.
func WithESP(machine host.OS, node, mountPoint string, flags uintptr, do func(Folder) error) error {
	// The folder above it is every service's way to its own files.
	if err := machine.MkdirAll(filepath.Dir(mountPoint), 0o755); err != nil {
		return err
	}
	if err := machine.MkdirAll(mountPoint, 0o700); err != nil {
		return err
	}
	// errors=continue: two names of one file, see AllOf, can be removed.
	flags |= unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC | unix.MS_NOATIME
	if err := machine.Mount(node, mountPoint, "vfat", flags, "umask=0077,errors=continue"); err != nil {
		return fmt.Errorf("mount the ESP (%s) on %s: %w", node, mountPoint, err)
	}
	err := do(Folder{filepath.Join(mountPoint, osdisk.EntriesFolder)})
	if unmountErr := machine.Unmount(mountPoint, 0); unmountErr != nil {
		err = errors.Join(err, fmt.Errorf("unmount the ESP: %w", unmountErr))
	}
	return err
}

// Folder holds the boot entries, on the ESP.
type Folder struct{ dir string }

// List returns the node's own entries.
func (f Folder) List() ([]osdisk.Entry, error) {
	files, err := os.ReadDir(f.dir)
	if err != nil {
		return nil, fmt.Errorf("list the boot entries: %w", err)
	}
	var list []osdisk.Entry
	for _, file := range files {
		if entry, ok := osdisk.ParseEntry(file.Name()); ok {
			list = append(list, entry)
		}
	}
	return list, nil
}

// Path is the file of an entry.
func (f Folder) Path(entry osdisk.Entry) string { return filepath.Join(f.dir, entry.FileName()) }

// Rename makes an entry another one. FAT has no journal: a power cut may leave
// both names, of one file, of which Of takes the right one.
func (f Folder) Rename(from, to osdisk.Entry) error {
	if from == to {
		return nil
	}
	if err := os.Rename(f.Path(from), f.Path(to)); err != nil {
		return fmt.Errorf("rename the boot entry: %w", err)
	}
	return f.syncEntry(to)
}

// syncEntry waits until an entry that got its name is on the disk: first the file,
// since FAT keeps where its content is in the folder, beside the name, and writes
// it there with the file; then the folder.
func (f Folder) syncEntry(entry osdisk.Entry) error {
	file, err := os.Open(f.Path(entry))
	if err != nil {
		return err
	}
	if err := errors.Join(file.Sync(), file.Close()); err != nil {
		return fmt.Errorf("write the boot entry to the disk: %w", err)
	}
	return f.sync()
}

// Remove removes entries; those that are gone already are no error.
func (f Folder) Remove(list []osdisk.Entry) error {
	for _, entry := range list {
		if err := os.Remove(f.Path(entry)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove a boot entry: %w", err)
		}
	}
	return f.sync()
}

// sync waits until the folder is on the disk.
func (f Folder) sync() error {
	dir, err := os.Open(f.dir)
	if err != nil {
		return err
	}
	defer dir.Close()
	if err := dir.Sync(); err != nil {
		return fmt.Errorf("write the boot entries to the disk: %w", err)
	}
	return nil
}

// unfinished is the name of a kernel that is being written: the loader does not
// take it for an entry.
const unfinished = "keelson.new"

// Add writes a kernel, reads it back, and only then makes it an entry.
func (f Folder) Add(entry osdisk.Entry, kernel []byte) (err error) {
	path := filepath.Join(f.dir, unfinished)
	defer func() {
		if err != nil {
			err = errors.Join(err, ignoreAbsent(os.Remove(path)))
		}
	}()
	file, err := os.Create(path)
	if err != nil {
		return fmt.Errorf("write the kernel to the ESP: %w", err)
	}
	_, err = file.Write(kernel)
	if err := errors.Join(err, file.Sync(), forget(file), file.Close()); err != nil {
		if errors.Is(err, unix.ENOSPC) {
			return fmt.Errorf("the ESP is full: %w; it holds files that are not Keelson's", err)
		}
		return fmt.Errorf("write the kernel to the ESP: %w", err)
	}
	if err := compareFile(path, kernel); err != nil {
		return err
	}
	if err := os.Rename(path, f.Path(entry)); err != nil {
		return fmt.Errorf("make the kernel a boot entry: %w", err)
	}
	return f.syncEntry(entry)
}

// forget drops what is cached of a file, so that it is read from the disk.
func forget(file *os.File) error {
	return unix.Fadvise(int(file.Fd()), 0, 0, unix.FADV_DONTNEED)
}

func compareFile(path string, want []byte) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	got, err := io.ReadAll(io.LimitReader(file, int64(len(want))+1))
	if err != nil {
		return fmt.Errorf("read the kernel back from the ESP: %w", err)
	}
	if !bytes.Equal(got, want) {
		return errors.New("the kernel reads back differently from the ESP: the disk is broken")
	}
	return nil
}

func ignoreAbsent(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
