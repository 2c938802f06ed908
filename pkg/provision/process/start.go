package process

import (
	"fmt"
	"math"
	"os"
	"os/exec"
	"syscall"

	"golang.org/x/sys/unix"
)

// markVariable is set in the environment of every started process, so that it
// can be found even if its starter was killed before it could note the pid.
const markVariable = "KEELSON_PROCESS"

// firstInherited is the first file descriptor after the standard ones.
const firstInherited = 3

// Command is a program to start in the background.
type Command struct {
	Argv []string
	// Mark tells the process from all others; see Find.
	Mark string
	// Log is the file that output and errors are appended to.
	Log string
}

// Started is a process that this program started and is the parent of.
type Started struct {
	Ref
	// Exited yields how the process ended, once.
	Exited <-chan error
}

// Start runs the command in a session of its own, with no terminal, input or
// working directory of its starter's, so that it lives on when that one ends.
func Start(c Command) (*Started, error) {
	log, err := os.OpenFile(c.Log, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open log of %s: %w", c.Argv[0], err)
	}
	defer log.Close()
	// Go closes its own files in children; what our starter handed us open,
	// such as the lock of flock(1), must not be kept by what outlives us.
	if err := unix.CloseRange(firstInherited, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC); err != nil {
		return nil, fmt.Errorf("keep open files from %s: %w", c.Argv[0], err)
	}
	cmd := exec.Command(c.Argv[0], c.Argv[1:]...)
	cmd.Dir = "/"
	cmd.Env = append(os.Environ(), markVariable+"="+c.Mark)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", c.Argv[0], err)
	}
	// Before anyone waits for it: until then its pid cannot go to another.
	ref, _, err := refOf(cmd.Process.Pid)
	exited := make(chan error, 1)
	go func() { exited <- cmd.Wait() }() // reaps; ends with the process
	if err != nil {
		return nil, fmt.Errorf("name the process of %s: %w", c.Argv[0], err)
	}
	return &Started{Ref: ref, Exited: exited}, nil
}
