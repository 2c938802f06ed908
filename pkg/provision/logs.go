package provision

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"
)

// The files that a cluster's processes write to are bounded by its network
// process, which looks at them every logInterval: of one that has grown to
// maxLog bytes the content moves to a second file, beside it, and it begins
// anew. So each has its newest maxLog bytes, and twice that at most, plus what
// a guest can write within an interval.
const (
	maxLog      = 8 << 20
	logInterval = 5 * time.Second
	oldSuffix   = ".old"
)

// growing lists the cluster's files that would grow for ever.
func growing(dir string, nodes []nodeSpec) []string {
	files := []string{filepath.Join(dir, networkLog)}
	for _, node := range nodes {
		for _, name := range []string{nodeConsole, nodeLog} {
			files = append(files, filepath.Join(dir, nodesDir, node.Name, name))
		}
	}
	return files
}

// keepShort bounds files until ctx ends. A file that cannot be bounded is
// logged, once in a row, and stays as it is.
func keepShort(ctx context.Context, files []string, log *slog.Logger) error {
	tick := time.NewTicker(logInterval)
	defer tick.Stop()
	failed := map[string]bool{}
	for {
		for _, file := range files {
			err := shorten(file, maxLog)
			if err != nil && !failed[file] {
				log.Warn("a file grows without bound", "error", err)
			}
			failed[file] = err != nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// shorten moves the content of a file that has reached the limit to its old
// file. The file itself stays, since its writer keeps it open; it appends, and
// goes on at the new end. What it writes between the copy and the cut is lost.
func shorten(path string, limit int64) error {
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // not started yet
	}
	if err != nil {
		return err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil || info.Size() < limit {
		return err
	}
	if _, err := file.Seek(-limit, io.SeekEnd); err != nil {
		return fmt.Errorf("read the end of %s: %w", path, err)
	}
	old, err := os.OpenFile(path+oldSuffix, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(old, file)
	if err = errors.Join(err, old.Close()); err != nil {
		return fmt.Errorf("move the content of %s: %w", path, err)
	}
	if err := file.Truncate(0); err != nil {
		return fmt.Errorf("cut %s: %w", path, err)
	}
	return nil
}
