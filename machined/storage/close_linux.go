package storage

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// retryPause is between two attempts to unmount: the kernel does not tell when
// the last file of a process that was killed is closed.
const retryPause = 200 * time.Millisecond

// Close unmounts everything that keeps the disk in use, and flushes it. What is
// still busy when ctx ends is made read-only instead, so that nothing is lost,
// and the error says who holds it.
func (s *Storage) Close(ctx context.Context) error {
	defer s.options.OS.Sync()
	s.options.OS.Sync()
	for {
		err := s.unmountAll()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return errors.Join(err, s.remountReadOnly())
		case <-time.After(retryPause):
		}
	}
}

// unmountAll unmounts once, newest first, what is on our file systems.
func (s *Storage) unmountAll() error {
	mounts, err := s.mounts()
	if err != nil {
		return err
	}
	var failed []error
	for _, target := range mounts {
		if err := s.options.OS.Unmount(target, unix.UMOUNT_NOFOLLOW); err != nil {
			failed = append(failed, fmt.Errorf("unmount %s: %w%s", target, err, s.holders(target)))
		}
	}
	return errors.Join(failed...)
}

// mounts lists what has to go, newest first: our file systems, what is mounted
// below them (volumes), and the overlays of containers, which use them from
// elsewhere.
func (s *Storage) mounts() ([]string, error) {
	table, err := s.options.OS.Root().Open("proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("list the mounts: %w", err)
	}
	defer table.Close()
	infos, err := mountinfo.GetMountsFromReader(table, nil)
	if err != nil {
		return nil, fmt.Errorf("list the mounts: %w", err)
	}
	var targets []string
	for _, info := range slices.Backward(infos) {
		if s.uses(info) {
			targets = append(targets, info.Mountpoint)
		}
	}
	return targets, nil
}

// uses tells whether a mount keeps our file systems busy.
func (s *Storage) uses(info *mountinfo.Info) bool {
	for _, dir := range []string{s.options.StateDir, s.options.VarDir} {
		if below(info.Mountpoint, dir) || (info.FSType == "overlay" && strings.Contains(info.VFSOptions, "dir="+dir+"/")) {
			return true
		}
	}
	return false
}

func below(name, dir string) bool { return name == dir || strings.HasPrefix(name, dir+"/") }

func (s *Storage) remountReadOnly() error {
	var failed []error
	for _, dir := range []string{s.options.VarDir, s.options.StateDir} {
		err := s.options.OS.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_RDONLY, "")
		if err != nil && !errors.Is(err, unix.EINVAL) { // EINVAL: it is unmounted
			failed = append(failed, fmt.Errorf("make %s read-only: %w", dir, err))
		}
	}
	return errors.Join(failed...)
}

// maxHolders is how many processes a message names.
const maxHolders = 5

// holders names the processes that use a file below dir, for a message.
func (s *Storage) holders(dir string) string {
	root := s.options.OS.Root()
	links, _ := fs.Glob(root, "proc/[0-9]*/fd/*") // the pattern is good
	for _, name := range []string{"cwd", "root", "exe"} {
		more, _ := fs.Glob(root, "proc/[0-9]*/"+name)
		links = append(links, more...)
	}
	found := map[string]bool{}
	for _, link := range links {
		target, err := fs.ReadLink(root, link)
		if err != nil || !below(target, dir) {
			continue
		}
		process := path.Join("proc", strings.Split(link, "/")[1])
		name, _ := fs.ReadFile(root, process+"/comm") // it may just have ended
		found[fmt.Sprintf("%s (pid %s)", strings.TrimSpace(string(name)), path.Base(process))] = true
		if len(found) == maxHolders {
			break
		}
	}
	if len(found) == 0 {
		return ""
	}
	return ", used by " + strings.Join(slices.Sorted(maps.Keys(found)), ", ")
}
