package provision

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
)

// maxSocketPath in bytes: sun_path in unix(7), without its terminating zero.
const maxSocketPath = 107

// Sockets in the runtime folder; those of the nodes are numbered to stay short.
const (
	controlSocketName = "control"
	longestSocketName = "999999.net"
)

func netSocket(runtimeDir string, node int) string {
	return filepath.Join(runtimeDir, strconv.Itoa(node)+".net")
}

func qmpSocket(runtimeDir string, node int) string {
	return filepath.Join(runtimeDir, strconv.Itoa(node)+".qmp")
}

// runtimeDirs are the places for a cluster's sockets, best first. The folder's
// name follows from the cluster's own, so that it can be found without cluster.json.
func runtimeDirs(clusterDir string) []string {
	sum := sha256.Sum256([]byte(clusterDir))
	name := hex.EncodeToString(sum[:6])
	dirs := []string{filepath.Join("/tmp", "keelson-"+strconv.Itoa(os.Getuid()), name)}
	if base := os.Getenv("XDG_RUNTIME_DIR"); filepath.IsAbs(base) {
		dirs = append([]string{filepath.Join(base, "keelson", name)}, dirs...)
	}
	return dirs
}

// chooseRuntimeDir picks the best place that leaves room for a socket's name.
func chooseRuntimeDir(clusterDir string) (string, error) {
	for _, dir := range runtimeDirs(clusterDir) {
		base := filepath.Dir(filepath.Dir(dir))
		if len(filepath.Join(dir, longestSocketName)) <= maxSocketPath && isFolder(base) {
			return dir, nil
		}
	}
	return "", errors.New("no folder for unix sockets: neither XDG_RUNTIME_DIR nor /tmp can be used")
}

func isFolder(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

// makeRuntimeDir makes the folder for sockets and its parent, or checks that
// those which exist are the user's alone: /tmp is everybody's.
func makeRuntimeDir(dir string) error {
	for _, path := range []string{filepath.Dir(dir), dir} {
		err := os.Mkdir(path, 0o700)
		if path == dir && errors.Is(err, fs.ErrNotExist) {
			return makeRuntimeDir(dir) // another cluster's Destroy took the parent with it
		}
		if err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		if err := checkPrivate(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

func checkPrivate(path string) error {
	info, err := os.Lstat(path) // a link could lead anywhere
	if err != nil {
		return err
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	switch {
	case !ok || !info.IsDir():
		return fmt.Errorf("%s is not a folder: remove it", path)
	case int(stat.Uid) != os.Getuid():
		return fmt.Errorf("%s belongs to user %d: it cannot be trusted; set XDG_RUNTIME_DIR to a folder of your own", path, stat.Uid)
	case info.Mode().Perm()&0o077 != 0:
		return fmt.Errorf("%s is open to other users (%s): run chmod 700 on it", path, info.Mode().Perm())
	}
	return nil
}

// removeRuntimeDirs removes the folder for sockets wherever it may be.
// recorded is "" if cluster.json is gone; it is believed only if it has the name it must have.
func removeRuntimeDirs(clusterDir, recorded string) error {
	candidates := runtimeDirs(clusterDir)
	if filepath.Base(recorded) == filepath.Base(candidates[0]) {
		candidates = append(candidates, recorded)
	}
	var errs []error
	for _, dir := range candidates {
		parent := filepath.Dir(dir)
		if checkPrivate(parent) != nil {
			continue // not there, or not ours
		}
		errs = append(errs, os.RemoveAll(dir))
		os.Remove(parent) // goes if this was the last cluster
	}
	return errors.Join(errs...)
}
