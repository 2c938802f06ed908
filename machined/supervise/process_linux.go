package supervise

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// outputDrain is how long an ended process' last lines may take. Its pipe
	// may stay open longer in children that outlive it.
	outputDrain = time.Second
	// killWait is how long a killed process may take to end: one in an
	// uninterruptible wait for a disk can take for ever.
	killWait = 5 * time.Second
)

// launch is what starting a process needs beside its Spec.
type launch struct {
	user   User
	cgroup *cgroup // nil: no cgroups (tests)
	output *Log
	reaper *Reaper // nil: nobody reaps (tests)
	log    *slog.Logger
	ids    bool // change user and privileges; needs root
}

// process is a started service's main process.
type process struct {
	spec   Spec
	cgroup *cgroup
	cmd    *exec.Cmd
	ended  chan struct{} // closed when it was waited for
	err    error         // how it ended; valid after ended
}

// startProcess starts a service's program with the service's privileges.
func startProcess(spec Spec, with launch) (*process, error) {
	keep, err := capabilityNumbers(spec.Capabilities)
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(spec.Path, spec.Args...)
	cmd.Dir = "/"
	cmd.Env = append([]string{defaultServicePath, "HOME=" + with.user.Home}, spec.Env...)
	// A session of its own: no controlling terminal, and a process group to
	// signal where there is no cgroup.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if with.ids {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: with.user.UID, Gid: with.user.GID, Groups: with.user.Groups}
		if !spec.AllCapabilities {
			cmd.SysProcAttr.AmbientCaps = keep
		}
	}
	if with.cgroup != nil {
		dir, err := os.Open(with.cgroup.path)
		if err != nil {
			return nil, fmt.Errorf("open cgroup: %w", err)
		}
		defer dir.Close()
		cmd.SysProcAttr.UseCgroupFD = true
		cmd.SysProcAttr.CgroupFD = int(dir.Fd())
	}
	output, input, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("make the output pipe: %w", err)
	}
	cmd.Stdout, cmd.Stderr = input, input

	err = onThrowawayThread(func() error {
		if with.ids {
			if err := dropPrivileges(spec, keep); err != nil {
				return err
			}
		}
		restore, err := setFileLimit(spec.NoFile)
		if err != nil {
			return err
		}
		defer restore()
		if with.reaper == nil {
			return cmd.Start()
		}
		return with.reaper.start(cmd)
	})
	input.Close()
	if err != nil {
		output.Close()
		return nil, fmt.Errorf("start %s: %w", spec.Path, err)
	}
	if spec.OOMScoreAdj != 0 {
		path := fmt.Sprintf("/proc/%d", cmd.Process.Pid)
		if err := writeControl(path, "oom_score_adj", strconv.Itoa(spec.OOMScoreAdj)); err != nil {
			with.log.Warn("service keeps the usual out-of-memory score", "service", spec.Name, "error", err)
		}
	}
	p := &process{spec: spec, cgroup: with.cgroup, cmd: cmd, ended: make(chan struct{})}
	go p.wait(output, with)
	return p, nil
}

// wait collects the process and its output. It ends with the process, and the
// reading part with the last holder of the pipe.
func (p *process) wait(output *os.File, with launch) {
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		defer output.Close()
		task := func(context.Context) error { with.output.consume(output); return nil }
		if err := Protect(context.Background(), with.log, p.spec.Name+" log", FailTask, task); err != nil {
			_, _ = io.Copy(io.Discard, output) // a full pipe would block the service
		}
	}()
	p.err = p.cmd.Wait()
	if with.reaper != nil {
		with.reaper.release(p.cmd.Process.Pid)
	}
	if !p.spec.Delegate {
		p.kill() // what the main process left behind
		if p.cgroup != nil {
			p.cgroup.waitEmpty(time.Now().Add(killWait))
		}
	}
	select {
	case <-drained:
	case <-time.After(outputDrain):
	}
	close(p.ended)
}

func (p *process) pid() int { return p.cmd.Process.Pid }

// kill ends the whole group, or only the main process of one that delegates.
// Errors mean that nothing is left to kill.
func (p *process) kill() {
	switch {
	case p.spec.Delegate:
		_ = p.cmd.Process.Kill()
	case p.cgroup != nil:
		_ = p.cgroup.kill()
	default:
		_ = unix.Kill(-p.pid(), unix.SIGKILL)
	}
}

// stop asks the process to end, and kills it after its StopTimeout, or at once
// when ctx ends. It reports whether the process is gone.
func (p *process) stop(ctx context.Context) bool {
	_ = p.cmd.Process.Signal(unix.SIGTERM)
	patience := time.NewTimer(p.spec.StopTimeout)
	defer patience.Stop()
	select {
	case <-p.ended:
		return true
	case <-patience.C:
	case <-ctx.Done():
	}
	p.kill()
	select {
	case <-p.ended:
		return true
	case <-time.After(killWait):
		return false
	}
}

// exitMessage says how a process ended.
func exitMessage(err error) string {
	var exit *exec.ExitError
	switch {
	case err == nil:
		return "exited with status 0"
	case errors.As(err, &exit) && exit.ExitCode() >= 0:
		return fmt.Sprintf("exited with status %d", exit.ExitCode())
	case errors.As(err, &exit):
		return "ended by " + exit.Error()
	default:
		return err.Error()
	}
}

// onThrowawayThread runs f on an OS thread that ends with it, so that what f
// changes about its thread stays its own. The process' main thread cannot end:
// it is held until a goroutine on another thread is through.
func onThrowawayThread(f func() error) error {
	result := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() {
			result <- onThrowawayThread(f)
			runtime.UnlockOSThread()
			return
		}
		result <- catch(context.Background(), "start process", func(context.Context) error { return f() })
		// Not unlocked: the thread ends with the goroutine.
	}()
	return <-result
}

// dropPrivileges takes from this thread what the program it is about to start
// must not get. The kernel hands both to the child; the thread itself keeps
// its permitted set, which starting the child needs.
func dropPrivileges(spec Spec, keep []uintptr) error {
	if !spec.AllowNewPrivs {
		if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
			return fmt.Errorf("set no_new_privs: %w", err)
		}
	}
	if spec.AllCapabilities {
		return nil
	}
	for number := uintptr(0); ; number++ {
		if slices.Contains(keep, number) {
			continue
		}
		err := unix.Prctl(unix.PR_CAPBSET_DROP, number, 0, 0, 0)
		if errors.Is(err, unix.EINVAL) { // past the last one this kernel has
			return nil
		}
		if err != nil {
			return fmt.Errorf("drop capability %d: %w", number, err)
		}
	}
}

// setFileLimit changes the limit that the next process inherits. It is the
// whole of PID 1's for that moment; the supervisor starts one process at a time.
func setFileLimit(files uint64) (restore func(), err error) {
	if files == 0 {
		return func() {}, nil
	}
	var before unix.Rlimit
	if err := unix.Prlimit(0, unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: files, Max: files}, &before); err != nil {
		return nil, fmt.Errorf("limit open files to %d: %w", files, err)
	}
	return func() { _ = unix.Prlimit(0, unix.RLIMIT_NOFILE, &before, nil) }, nil
}
