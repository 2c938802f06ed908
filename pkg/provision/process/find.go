package process

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

// Find lists this user's running processes whose mark satisfies match.
func Find(match func(mark string) bool) ([]Ref, error) {
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	var found []Ref
	for _, dir := range dirs {
		pid, err := strconv.Atoi(filepath.Base(dir))
		if err != nil || !isOwn(dir) {
			continue
		}
		// Named before its environment is read: if the pid changes hands in
		// between, the name fits nobody.
		ref, zombie, err := refOf(pid)
		if err != nil || zombie {
			continue
		}
		if mark, marked := markOf(dir); marked && match(mark) {
			found = append(found, ref)
		}
	}
	return found, nil
}

func isOwn(dir string) bool {
	info, err := os.Stat(dir)
	if err != nil {
		return false
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	return ok && int(stat.Uid) == os.Getuid()
}

// While a process is becoming another program (execve), the kernel shows it
// without an environment; that takes microseconds, on a busy machine longer.
const (
	execRetries = 20
	execPause   = 5 * time.Millisecond
)

// markOf reads the mark from a process's initial environment. A process that
// cannot be read is not one of ours.
func markOf(dir string) (string, bool) {
	environ, err := os.ReadFile(filepath.Join(dir, "environ"))
	for range execRetries {
		// Threads of the kernel have no environment either, and no program.
		if _, kernel := os.Readlink(filepath.Join(dir, "exe")); err != nil || len(environ) > 0 || kernel != nil {
			break
		}
		time.Sleep(execPause)
		environ, err = os.ReadFile(filepath.Join(dir, "environ"))
	}
	if err != nil {
		return "", false
	}
	for entry := range bytes.SplitSeq(environ, []byte{0}) {
		if mark, found := bytes.CutPrefix(entry, []byte(markVariable+"=")); found {
			return string(mark), true
		}
	}
	return "", false
}
