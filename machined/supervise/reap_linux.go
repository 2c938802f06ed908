package supervise

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// reapGrace is how long an ended child in PID 1's own cgroup is left alone:
// the commands that stages run to their end (mke2fs) are collected by their
// own Wait, at once. Only an orphan is still there after it.
const reapGrace = 3 * time.Second

// Reaper collects the orphans that Linux hands to PID 1, without taking an
// exit status from those who started a process and wait for it.
type Reaper struct {
	grace  time.Duration
	onReap func(pid int)
	wake   chan struct{}

	mu    sync.Mutex
	owned map[int]bool
	round chan struct{} // closed and replaced after every look
}

// NewReaper makes a reaper. onReap, if not nil, hears of every orphan.
func NewReaper(onReap func(pid int)) *Reaper {
	return &Reaper{grace: reapGrace, onReap: onReap, wake: make(chan struct{}, 1), owned: map[int]bool{}, round: make(chan struct{})}
}

// start starts a command and registers its process as one that has an owner,
// in one step, so that no exit falls in between.
func (r *Reaper) start(cmd *exec.Cmd) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := cmd.Start(); err != nil {
		return err
	}
	r.owned[cmd.Process.Pid] = true
	return nil
}

// release forgets a process that its owner has waited for.
func (r *Reaper) release(pid int) {
	r.mu.Lock()
	delete(r.owned, pid)
	r.mu.Unlock()
	select {
	case r.wake <- struct{}{}: // an orphan may have been hidden behind it
	default:
	}
}

// Run reaps until ctx ends.
func (r *Reaper) Run(ctx context.Context) error {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, unix.SIGCHLD)
	defer signal.Stop(signals)
	grace := time.NewTimer(r.grace)
	defer grace.Stop()
	var candidate int // an ended child that may have an owner
	var since time.Time
	for {
		if pid := r.reap(candidate, since); pid != candidate {
			candidate, since = pid, time.Now()
		}
		if candidate != 0 {
			grace.Reset(time.Until(since.Add(r.grace)))
		}
		select {
		case <-ctx.Done():
			return nil
		case <-signals:
		case <-r.wake:
		case <-grace.C:
		}
	}
}

// reap collects ended orphans. It returns an ended child that may still have an
// owner, 0 if there is none: the kernel shows no other child before that one
// is collected. candidate is what it returned before, since when.
func (r *Reaper) reap(candidate int, since time.Time) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	defer func() {
		close(r.round)
		r.round = make(chan struct{})
	}()
	for {
		pid, _ := peek()
		if pid == 0 || r.owned[pid] {
			return 0 // release wakes us once the owner has collected it
		}
		graceOver := pid == candidate && time.Since(since) >= r.grace
		if inOwnCgroup(pid) && !graceOver {
			return pid
		}
		if _, err := unix.Wait4(pid, nil, unix.WNOHANG, nil); err == nil && r.onReap != nil {
			r.onReap(pid)
		}
	}
}

// WaitChildless waits until every child has ended and was collected. In PID 1,
// to which all orphans come, that is every process of the node. Run must be
// running.
func (r *Reaper) WaitChildless(ctx context.Context) error {
	for {
		r.mu.Lock()
		round := r.round
		_, children := peek()
		r.mu.Unlock()
		if !children {
			return nil
		}
		select {
		case <-round:
		case <-ctx.Done():
			return fmt.Errorf("wait for all processes to end: %w", ctx.Err())
		}
	}
}

// peek returns an ended child without collecting it, 0 if there is none, and
// whether there are children at all.
func peek() (pid int, children bool) {
	for {
		var info unix.Siginfo
		err := unix.Waitid(unix.P_ALL, 0, &info, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil: // ECHILD
			return 0, false
		}
		// si_pid is the first member of the union that x/sys leaves out: at
		// offset 16 on 64-bit kernels (include/uapi/asm-generic/siginfo.h).
		return int(*(*int32)(unsafe.Add(unsafe.Pointer(&info), 16))), true
	}
}

// inOwnCgroup reports whether an ended process is in PID 1's own cgroup, where
// only the commands it runs itself are: services and pods have theirs. The
// kernel keeps that line until the process is collected.
func inOwnCgroup(pid int) bool {
	own, err := unifiedCgroup("self")
	if err != nil {
		return true
	}
	other, err := unifiedCgroup(fmt.Sprint(pid))
	return err != nil || bytes.Equal(own, other)
}

// unifiedCgroup returns the "0::" line of a process, its cgroup v2 path.
func unifiedCgroup(pid string) ([]byte, error) {
	file, err := os.ReadFile("/proc/" + pid + "/cgroup")
	if err != nil {
		return nil, err
	}
	for line := range bytes.Lines(file) {
		if bytes.HasPrefix(line, []byte("0::")) {
			return line, nil
		}
	}
	return nil, errors.New("no cgroup v2")
}
