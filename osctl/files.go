package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/google/renameio/v2"
)

// writeSecretFile writes a file for its owner only, all at once. An existing
// one is replaced only with force.
func writeSecretFile(path string, content []byte, force bool) error {
	if err := mayWrite(path, force); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("make the directory of %s: %w", path, err)
	}
	if err := renameio.WriteFile(path, content, 0o600, renameio.IgnoreUmask()); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

// mayWrite refuses a path that holds something already, unless forced.
func mayWrite(path string, force bool) error {
	_, err := os.Lstat(path)
	if err == nil && !force {
		return fmt.Errorf("%s exists already: give --force to replace it, or another name", path)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
