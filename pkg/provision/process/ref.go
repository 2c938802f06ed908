package process

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Ref names one process for ever. A pid alone would not: the kernel gives it
// to another process later, after a reboot even with the same start time.
type Ref struct {
	PID int `json:"pid"`
	// StartTime is field 22 of /proc/PID/stat: clock ticks since boot.
	StartTime uint64 `json:"startTime"`
	// BootID is the kernel's random id of the boot the process belongs to.
	BootID string `json:"bootID"`
}

// errGone says that the process has ended.
var errGone = errors.New("process has ended")

// Alive tells whether the process still runs; a zombie does not.
func (r Ref) Alive() bool {
	pidfd, err := r.open()
	if err != nil {
		return false
	}
	unix.Close(pidfd)
	return true
}

// Kill ends the process with SIGKILL and waits until it is gone. It is no
// error if it was already.
func (r Ref) Kill(timeout time.Duration) error {
	pidfd, err := r.open()
	if err != nil {
		return ignoreGone(err)
	}
	defer unix.Close(pidfd)
	return r.end(pidfd, unix.SIGKILL, timeout)
}

// Stop asks the process to end with SIGTERM, and kills it if it has not within
// grace.
func (r Ref) Stop(grace time.Duration) error {
	pidfd, err := r.open()
	if err != nil {
		return ignoreGone(err)
	}
	defer unix.Close(pidfd)
	if r.end(pidfd, unix.SIGTERM, grace) == nil {
		return nil
	}
	return r.end(pidfd, unix.SIGKILL, grace)
}

// end sends a signal and waits for the process to be gone.
func (r Ref) end(pidfd int, signal unix.Signal, timeout time.Duration) error {
	err := unix.PidfdSendSignal(pidfd, signal, nil, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("send %s to process %d: %w", unix.SignalName(signal), r.PID, err)
	}
	for late := time.Now().Add(timeout); ; {
		left := time.Until(late)
		if left <= 0 {
			return fmt.Errorf("process %d still runs %s after %s", r.PID, timeout, unix.SignalName(signal))
		}
		// A pidfd becomes readable when its process ends.
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}, int(left.Milliseconds())+1)
		switch {
		case n > 0:
			return nil
		case err != nil && !errors.Is(err, unix.EINTR):
			return fmt.Errorf("wait for process %d to end: %w", r.PID, err)
		}
	}
}

// open returns a pidfd of exactly this process, or errGone. What is signalled
// through it cannot hit a later process with the same pid: that one would not
// have our start time when it is read after the pidfd was opened.
func (r Ref) open() (int, error) {
	if r.PID <= 0 || r.BootID != bootID() {
		return -1, errGone
	}
	pidfd, err := unix.PidfdOpen(r.PID, 0)
	if errors.Is(err, unix.ESRCH) {
		return -1, errGone
	}
	if err != nil {
		return -1, fmt.Errorf("open process %d: %w", r.PID, err)
	}
	if now, zombie, err := refOf(r.PID); err != nil || zombie || now != r {
		unix.Close(pidfd)
		return -1, errGone
	}
	return pidfd, nil
}

// refOf names the process that has this pid now, and tells whether it ended
// and only waits to be reaped.
func refOf(pid int) (ref Ref, zombie bool, err error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return Ref{}, false, errGone
	}
	start, zombie, err := parseStat(stat)
	return Ref{PID: pid, StartTime: start, BootID: bootID()}, zombie, err
}

// parseStat finds state and start time in /proc/PID/stat (proc_pid_stat(5)).
// The second field is the program's name in parentheses and may hold anything.
func parseStat(stat []byte) (start uint64, zombie bool, err error) {
	_, rest, found := bytes.Cut(stat, []byte("("))
	end := bytes.LastIndexByte(rest, ')')
	if !found || end < 0 {
		return 0, false, fmt.Errorf("process status %q has no program name", stat)
	}
	fields := strings.Fields(string(rest[end+1:])) // begins with field 3, the state
	const stateAt, startAt = 0, 22 - 3
	if len(fields) <= startAt {
		return 0, false, fmt.Errorf("process status %q is too short", stat)
	}
	start, err = strconv.ParseUint(fields[startAt], 10, 64)
	return start, fields[stateAt] == "Z" || fields[stateAt] == "X", err
}

func bootID() string {
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(id))
}

func ignoreGone(err error) error {
	if errors.Is(err, errGone) {
		return nil
	}
	return err
}
