package localpath

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// maxDepth is how deep folders are entered before what is below is moved up: a
// pod can nest them deeper than this process may have files open.
const maxDepth = 64

// namesAtOnce are read of a folder of any size.
const namesAtOnce = 512

// remove removes a volume's folder with all that is in it; one that is gone is
// no error. Interrupted anywhere, it goes on with what is left.
func (f *folder) remove(ctx context.Context, name string) error {
	if err := checkName(name); err != nil {
		return err
	}
	err := f.removeVolume(ctx, name)
	if err == nil {
		// On disk before the cluster forgets the volume.
		err = f.dir.Sync()
	}
	switch {
	case errors.Is(err, unix.EPERM):
		err = fmt.Errorf("%w (it may be immutable or append-only: take that off with chattr from a privileged pod)", err)
	case errors.Is(err, unix.EBUSY):
		err = fmt.Errorf("%w (a file system is mounted there: unmount it, or end the pod that did)", err)
	}
	if err != nil {
		return fmt.Errorf("remove folder %s: %w", filepath.Join(f.path, name), err)
	}
	return nil
}

func (f *folder) removeVolume(ctx context.Context, name string) error {
	top, err := openBelow(f.dir, name)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return err
	}
	defer top.Close()
	r := remover{top: top}
	if err := r.empty(ctx, top, 0); err != nil {
		return err
	}
	return unlink(f.dir, name, unix.AT_REMOVEDIR)
}

// remover empties one volume. Every step is relative to an open folder that was
// reached without following a link, so that whatever a pod does meanwhile,
// nothing outside of the volume is touched.
type remover struct {
	top   *os.File
	moved int
}

func (r *remover) empty(ctx context.Context, dir *os.File, depth int) error {
	for {
		// Reading goes on from the start: names move as others are removed.
		if _, err := dir.Seek(0, io.SeekStart); err != nil {
			return err
		}
		names, err := dir.Readdirnames(namesAtOnce)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		for _, name := range names {
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := r.removeEntry(ctx, dir, name, depth); err != nil {
				return fmt.Errorf("%q: %w", name, err)
			}
		}
	}
}

func (r *remover) removeEntry(ctx context.Context, dir *os.File, name string, depth int) error {
	err := unlink(dir, name, 0)
	if !errors.Is(err, unix.EISDIR) {
		return err
	}
	// Cheap where most folders are empty, and needed where one is a mount point.
	if err := unlink(dir, name, unix.AT_REMOVEDIR); !errors.Is(err, unix.ENOTEMPTY) {
		return err
	}
	if depth >= maxDepth {
		return r.moveUp(dir, name)
	}
	child, err := openBelow(dir, name)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return err
	}
	defer child.Close()
	if err := r.empty(ctx, child, depth+1); err != nil {
		return err
	}
	return unlink(dir, name, unix.AT_REMOVEDIR)
}

// moveUp moves a folder to the top of the volume, which is read again until it
// is empty.
func (r *remover) moveUp(dir *os.File, name string) error {
	for {
		to := ".removing-" + strconv.Itoa(r.moved)
		r.moved++
		err := unix.Renameat2(int(dir.Fd()), name, int(r.top.Fd()), to, unix.RENAME_NOREPLACE)
		switch {
		case errors.Is(err, unix.EEXIST): // of a removal that was interrupted
		case errors.Is(err, unix.ENOENT):
			return nil
		default:
			return err
		}
	}
}

// unlink removes one name; one that is gone is no error.
func unlink(dir *os.File, name string, flags int) error {
	for {
		err := unix.Unlinkat(int(dir.Fd()), name, flags)
		switch {
		case errors.Is(err, unix.ENOENT):
			return nil
		case !errors.Is(err, unix.EINTR):
			return err
		}
	}
}
