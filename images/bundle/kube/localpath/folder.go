package localpath

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// folder holds the volumes: one folder each, by its name.
type folder struct {
	path  string
	dir   *os.File
	owner int // of new volumes; root, as upstream's local-path has it
}

// Modes. A volume is open to pods of any user, who reach it by its mount only:
// the folder above lets nobody through.
const (
	unfinished = 0o700
	volumeMode = 0o777
)

func openFolder(path string) (*folder, error) {
	dir, err := os.OpenFile(path, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, fmt.Errorf("open the folder of volumes: %w", err)
	}
	info, err := dir.Stat()
	if err == nil && info.Mode().Perm()&0o077 != 0 {
		err = fmt.Errorf("the folder of volumes %s has mode %s and must be closed to other users", path, info.Mode())
	}
	if err != nil {
		dir.Close()
		return nil, err
	}
	return &folder{path: path, dir: dir}, nil
}

// size is what the file system could hold of other users' if it were empty, in
// bytes: without the blocks that only one user may use.
func (f *folder) size() (int64, error) {
	var stat unix.Statfs_t
	if err := unix.Fstatfs(int(f.dir.Fd()), &stat); err != nil {
		return 0, fmt.Errorf("read the size of the file system of %s: %w", f.path, err)
	}
	return int64(stat.Blocks-(stat.Bfree-stat.Bavail)) * stat.Bsize, nil
}

// create makes a volume's folder, or finishes one that was begun. It leaves a
// finished one as it is: a pod may have it.
func (f *folder) create(name string) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("make folder %s: %w", filepath.Join(f.path, name), err)
		}
	}()
	if err := checkName(name); err != nil {
		return err
	}
	if err := unix.Mkdirat(int(f.dir.Fd()), name, unfinished); err != nil && !errors.Is(err, unix.EEXIST) {
		return err
	}
	made, err := openBelow(f.dir, name)
	if err != nil {
		return err
	}
	defer made.Close()
	info, err := made.Stat()
	if err != nil {
		return err
	}
	if info.Mode().Perm() == unfinished && int(info.Sys().(*syscall.Stat_t).Uid) == os.Geteuid() {
		// The mode is last: it says that the folder is finished, and umask
		// had no part in it.
		if err := errors.Join(made.Chown(f.owner, f.owner), made.Chmod(volumeMode)); err != nil {
			return err
		}
	}
	// On disk before the cluster is told of it.
	return errors.Join(made.Sync(), f.dir.Sync())
}

// checkName keeps to names of volumes in Kubernetes, which are names of files.
func checkName(name string) error {
	if name == "" || name == "." || name == ".." || filepath.Base(name) != name {
		return fmt.Errorf("%q is no name of a volume", name)
	}
	return nil
}

// openBelow opens a folder in dir. Neither a link nor a mount leads it out.
func openBelow(dir *os.File, name string) (*os.File, error) {
	for {
		fd, err := unix.Openat2(int(dir.Fd()), name, &unix.OpenHow{
			Flags:   unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC,
			Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS | unix.RESOLVE_NO_XDEV,
		})
		switch {
		case err == nil:
			return os.NewFile(uintptr(fd), filepath.Join(dir.Name(), name)), nil
		case errors.Is(err, unix.EINTR), errors.Is(err, unix.EAGAIN): // EAGAIN: something was renamed meanwhile
		case errors.Is(err, unix.EXDEV):
			return nil, errors.New("another file system is mounted there: unmount it")
		default:
			return nil, err
		}
	}
}
