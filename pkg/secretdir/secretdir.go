package secretdir

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
)

// Owner is the user and group that files belong to.
type Owner struct {
	UID, GID int
}

// Modes of what Write makes. The folders above the written one must let
// service users through.
const (
	parentMode = 0o755
	dirMode    = 0o700
	fileMode   = 0o400
)

// Make makes the folder at path, with its parents, and gives it to owner. The
// folder itself is closed to everyone else.
func Make(path string, owner Owner) error {
	if err := os.MkdirAll(filepath.Dir(path), parentMode); err != nil {
		return fmt.Errorf("make the folder above %s: %w", path, err)
	}
	if err := os.Mkdir(path, dirMode); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("make folder %s: %w", path, err)
	}
	root, err := os.OpenRoot(path)
	if err != nil {
		return fmt.Errorf("open folder %s: %w", path, err)
	}
	defer root.Close()
	if err := root.Chown(".", owner.UID, owner.GID); err != nil {
		return fmt.Errorf("give folder %s to user %d: %w", path, owner.UID, err)
	}
	if err := root.Chmod(".", dirMode); err != nil {
		return fmt.Errorf("close folder %s to others: %w", path, err)
	}
	return nil
}

// Write makes the folder at path if need be and puts files into it, by name,
// each readable by owner only. A file is replaced in one step, so that a
// running service never reads half of one; other files in the folder stay.
func Write(path string, owner Owner, files map[string][]byte) error {
	if err := Make(path, owner); err != nil {
		return err
	}
	// The service may write to its own folder. A Root keeps the links it might
	// leave there from leading root's writes elsewhere.
	root, err := os.OpenRoot(path)
	if err != nil {
		return fmt.Errorf("open folder %s: %w", path, err)
	}
	defer root.Close()
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if err := replace(root, name, owner, files[name]); err != nil {
			return fmt.Errorf("write %s: %w", filepath.Join(path, name), err)
		}
	}
	return nil
}

func replace(root *os.Root, name string, owner Owner, content []byte) error {
	temporary := "." + name + ".new"
	if err := root.Remove(temporary); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	file, err := root.OpenFile(temporary, os.O_WRONLY|os.O_CREATE|os.O_EXCL, fileMode)
	if err != nil {
		return err
	}
	_, err = file.Write(content)
	err = errors.Join(err, file.Chown(owner.UID, owner.GID), file.Close())
	if err != nil {
		return err
	}
	return root.Rename(temporary, name)
}
