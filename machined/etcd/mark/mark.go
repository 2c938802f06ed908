package mark

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// maxContent bounds what Get reads, in bytes.
const maxContent = 4 << 10

// Set writes the file, durably: once it returns, the mark is found even if the
// power fails now. A mark that is set already is replaced. The folder may
// belong to a service: a Root keeps links in it from leading elsewhere.
func Set(dir, name, content string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return fmt.Errorf("open %s: %w", dir, err)
	}
	defer root.Close()
	temporary := "." + name + ".new"
	if err := root.Remove(temporary); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("mark %s: %w", name, err)
	}
	file, err := root.OpenFile(temporary, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o444)
	if err != nil {
		return fmt.Errorf("mark %s: %w", name, err)
	}
	_, err = file.WriteString(content)
	if err := errors.Join(err, file.Sync(), file.Close()); err != nil {
		return fmt.Errorf("mark %s: %w", name, err)
	}
	if err := root.Rename(temporary, name); err != nil {
		return fmt.Errorf("mark %s: %w", name, err)
	}
	return SyncDir(dir)
}

// Get returns a mark's content, and whether it is set.
func Get(dir, name string) (content string, set bool, err error) {
	root, err := os.OpenRoot(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return "", false, nil
	}
	if err != nil {
		return "", false, fmt.Errorf("open %s: %w", dir, err)
	}
	defer root.Close()
	// Not to wait for a writer, should the service have left a pipe here.
	file, err := root.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return "", false, nil
	}
	if err != nil {
		return "", false, fmt.Errorf("read mark %s: %w", name, err)
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, maxContent))
	if err != nil {
		return "", false, fmt.Errorf("read mark %s: %w", name, err)
	}
	return string(text), true, nil
}

// Clear removes a mark, durably. That it is gone already is no error.
func Clear(dir, name string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return fmt.Errorf("open %s: %w", dir, err)
	}
	defer root.Close()
	err = root.Remove(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("clear mark %s: %w", name, err)
	}
	return SyncDir(dir)
}

// SyncDir makes changes of names in a folder durable.
func SyncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("open %s: %w", path, err)
	}
	if err := errors.Join(dir.Sync(), dir.Close()); err != nil {
		return fmt.Errorf("sync %s: %w", path, err)
	}
	return nil
}
