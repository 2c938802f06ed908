package localpath

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func newFolder(t *testing.T) *folder {
	t.Helper()
	path := filepath.Join(t.TempDir(), "volumes")
	must(t, os.Mkdir(path, 0o700))
	f, err := openFolder(path)
	must(t, err)
	t.Cleanup(func() { f.dir.Close() })
	f.owner = os.Getuid()
	return f
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func isGone(t *testing.T, path string) {
	t.Helper()
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%s is still there (%v)", path, err)
	}
}

func TestFolderMustBeClosed(t *testing.T) {
	path := t.TempDir()
	must(t, os.Chmod(path, 0o711))
	if f, err := openFolder(path); err == nil || !strings.Contains(err.Error(), "must be closed") {
		t.Errorf("opened a folder that others pass through: %v, %v", f, err)
	}
	link := filepath.Join(t.TempDir(), "link")
	must(t, os.Symlink(newFolder(t).path, link))
	if _, err := openFolder(link); err == nil {
		t.Error("followed a link to the folder of volumes")
	}
}

func TestCreate(t *testing.T) {
	f := newFolder(t)
	volume := filepath.Join(f.path, "pvc-1")
	mode := func() fs.FileMode {
		info, err := os.Stat(volume)
		must(t, err)
		return info.Mode().Perm()
	}
	// As a power cut leaves it.
	must(t, os.Mkdir(volume, unfinished))
	must(t, f.create("pvc-1"))
	if got := mode(); got != volumeMode {
		t.Errorf("one that was begun has mode %s", got)
	}
	must(t, f.create("pvc-1"))
	// A pod that took it for itself keeps it so.
	must(t, os.Chmod(volume, 0o750))
	must(t, f.create("pvc-1"))
	if got := mode(); got != 0o750 {
		t.Errorf("a finished one has mode %s now", got)
	}
	for _, name := range []string{"", ".", "..", "../x", "a/b", "/x"} {
		if err := f.create(name); err == nil {
			t.Errorf("made %q", name)
		}
		if err := f.remove(t.Context(), name); err == nil {
			t.Errorf("removed %q", name)
		}
	}
	if size, err := f.size(); err != nil || size <= 0 {
		t.Errorf("size %d, %v", size, err)
	}
}

func TestCreateDoesNotFollowALink(t *testing.T) {
	f, outside := newFolder(t), t.TempDir()
	must(t, os.Chmod(outside, unfinished))
	must(t, os.Symlink(outside, filepath.Join(f.path, "pvc-1")))
	if err := f.create("pvc-1"); err == nil {
		t.Error("a link was taken for a volume")
	}
	if info, err := os.Stat(outside); err != nil || info.Mode().Perm() != unfinished {
		t.Errorf("what the link leads to was changed: %v, %v", info.Mode(), err)
	}
}

// fill leaves in a volume what pods do, and links out of it.
func fill(t *testing.T, volume, outside string) {
	t.Helper()
	must(t, os.MkdirAll(filepath.Join(volume, "a/b/c"), 0o755))
	must(t, os.WriteFile(filepath.Join(volume, "a/b/file"), []byte("x"), 0o400))
	must(t, os.WriteFile(filepath.Join(outside, "precious"), []byte("x"), 0o600))
	must(t, os.Symlink(outside, filepath.Join(volume, "link")))
	must(t, os.Symlink(filepath.Join(outside, "precious"), filepath.Join(volume, "a/link")))
	must(t, os.Symlink("../../..", filepath.Join(volume, "a/up")))
	must(t, os.Link(filepath.Join(outside, "precious"), filepath.Join(volume, "hard")))
	must(t, unix.Mkfifo(filepath.Join(volume, "pipe"), 0o600))
}

func isKept(t *testing.T, outside string) {
	t.Helper()
	if content, err := os.ReadFile(filepath.Join(outside, "precious")); err != nil || string(content) != "x" {
		t.Errorf("what is outside of the volume was touched: %q, %v", content, err)
	}
}

func TestRemove(t *testing.T) {
	f, outside := newFolder(t), t.TempDir()
	must(t, f.create("pvc-1"))
	must(t, f.create("pvc-2"))
	fill(t, filepath.Join(f.path, "pvc-1"), outside)
	must(t, f.remove(t.Context(), "pvc-1"))
	isGone(t, filepath.Join(f.path, "pvc-1"))
	isKept(t, outside)
	must(t, f.remove(t.Context(), "pvc-1"))
	if _, err := os.Stat(filepath.Join(f.path, "pvc-2")); err != nil {
		t.Errorf("another volume is gone: %v", err)
	}
}

// Nobody but root can put one there; still nothing may follow it.
func TestRemoveDoesNotFollowALinkForAVolume(t *testing.T) {
	f, outside := newFolder(t), t.TempDir()
	must(t, os.WriteFile(filepath.Join(outside, "precious"), []byte("x"), 0o600))
	must(t, os.Symlink(outside, filepath.Join(f.path, "pvc-1")))
	if err := f.remove(t.Context(), "pvc-1"); err == nil {
		t.Error("a link was taken for a volume")
	}
	isKept(t, outside)
}

// A process that still runs swaps a folder for a link while it is removed.
func TestRemoveWhileAFolderBecomesALink(t *testing.T) {
	f, outside := newFolder(t), t.TempDir()
	must(t, os.WriteFile(filepath.Join(outside, "precious"), []byte("x"), 0o600))
	must(t, f.create("pvc-1"))
	volume := filepath.Join(f.path, "pvc-1")
	trap, link := filepath.Join(volume, "trap"), filepath.Join(volume, "link")
	ctx, stop := context.WithCancel(t.Context())
	swapping := make(chan struct{})
	go func() {
		defer close(swapping)
		for ctx.Err() == nil {
			_ = os.MkdirAll(filepath.Join(trap, "x"), 0o755)
			_ = os.Symlink(outside, link)
			_ = unix.Renameat2(unix.AT_FDCWD, trap, unix.AT_FDCWD, link, unix.RENAME_EXCHANGE)
		}
	}()
	for range 300 {
		// It may fail as long as something is put there; it may not leave.
		_ = f.remove(t.Context(), "pvc-1")
	}
	stop()
	<-swapping
	isKept(t, outside)
	must(t, f.remove(t.Context(), "pvc-1"))
	isGone(t, volume)
}

// A pod can nest folders deeper than a process can have files open.
func TestRemoveWhatIsDeep(t *testing.T) {
	const depth, allowed = 1000, 256
	f := newFolder(t)
	must(t, f.create("pvc-1"))
	dir, err := openBelow(f.dir, "pvc-1")
	must(t, err)
	for range depth {
		must(t, unix.Mkdirat(int(dir.Fd()), "d", 0o755))
		must(t, unix.Mkdirat(int(dir.Fd()), ".removing-0", 0o755)) // the name that it would use
		below, err := openBelow(dir, "d")
		must(t, err)
		dir.Close()
		dir = below
	}
	dir.Close()
	var before unix.Rlimit
	must(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &before))
	must(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: allowed, Max: before.Max}))
	err = f.remove(t.Context(), "pvc-1")
	must(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &before))
	must(t, err)
	isGone(t, filepath.Join(f.path, "pvc-1"))
}

// countdown is a context that ends after some looks at it: a power cut, for
// whoever asks before each step.
type countdown struct {
	context.Context
	left int
}

func (c *countdown) Err() error {
	if c.left--; c.left < 0 {
		return context.Canceled
	}
	return nil
}

func TestRemoveGoesOnAfterAnInterruption(t *testing.T) {
	f, outside := newFolder(t), t.TempDir()
	must(t, f.create("pvc-1"))
	volume := filepath.Join(f.path, "pvc-1")
	fill(t, volume, outside)
	must(t, os.MkdirAll(filepath.Join(volume, strings.Repeat("deep/", 2*maxDepth)), 0o755))
	interrupted := 0
	for {
		err := f.remove(&countdown{t.Context(), interrupted}, "pvc-1") // each time a step further
		if err == nil {
			break
		}
		if !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		if interrupted++; interrupted > 1000 {
			t.Fatal("it does not get on")
		}
	}
	if interrupted == 0 {
		t.Error("nothing was interrupted")
	}
	isGone(t, volume)
	isKept(t, outside)
}
