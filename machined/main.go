package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"time"

	"golang.org/x/sys/unix"

	"github.com/keelson-os/keelson/machined/api"
	"github.com/keelson-os/keelson/machined/host"
	"github.com/keelson-os/keelson/machined/host/power"
	"github.com/keelson-os/keelson/machined/supervise"
	"github.com/keelson-os/keelson/machined/upgrade"
)

const (
	// shutdownDeadline bounds the way down as a whole, beside the time that pods
	// are given and each task's overtime; then the machine stops, whatever still
	// runs.
	shutdownDeadline = 6 * time.Minute
	// bootEnd is how long tasks of the boot may take to notice a stop request.
	bootEnd = 15 * time.Second
	// readingTime is how long a fatal error stands on the console.
	readingTime = 30 * time.Second
	// memoryLimit is where Go's runtime collects harder, in bytes: the goal for
	// this process is 40 MiB, and logs may take a quarter of it.
	memoryLimit = 64 << 20
)

func main() {
	if os.Getpid() != 1 {
		fmt.Fprintln(os.Stderr, "machined: this is process 1 of a Keelson node; it does not run elsewhere")
		os.Exit(1)
	}
	debug.SetMemoryLimit(memoryLimit)
	machine := host.Linux{}
	for {
		// Process 1 must not end: the kernel would panic. run returns only when
		// it cannot go on at all.
		err := run(machine)
		fmt.Fprintf(os.Stderr, "machined: %v; restarting the machine in %s\n", err, readingTime)
		go machine.Sync() // beside: a dead disk can hold it up for ever
		time.Sleep(readingTime)
		if err := machine.Reboot(host.Restart); err != nil {
			fmt.Fprintln(os.Stderr, "machined:", err)
		}
	}
}

// run is the node's life: boot, wait for a stop request, go down. It does not
// return unless something is broken beyond what the node can live with.
func run(machine host.OS) (err error) {
	defer func() {
		if value := recover(); value != nil {
			err = fmt.Errorf("panic: %v\n%s", value, debug.Stack())
		}
	}()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	n := newNode(ctx, machine, os.Stderr)
	defer n.console.close()
	defer n.console.flush()
	n.events.Reached("init", "machined is process 1")

	n.background(ctx, "orphans", supervise.RestartTask, n.reaper.Run)
	n.background(ctx, "signals", supervise.RestartTask, n.watchSignals)
	n.background(ctx, "power button", supervise.RestartTask, n.watchPowerButton)

	booting, stopBooting := context.WithCancel(ctx)
	booted := n.background(booting, "boot", supervise.FailTask, n.boot)

	request := <-n.stops
	stopBooting()
	select {
	case <-booted:
	case <-time.After(bootEnd):
		n.log.Warn("the boot does not end; going down all the same")
	}
	n.log.Info(request.sequence().name+" requested", "by", request.By, "forced", request.Force)

	n.stop = request
	down, cancelDown := context.WithTimeout(ctx, request.deadline(n.config))
	defer cancelDown()
	if err := n.run(down, request.sequence()); err != nil {
		// Only a reset gives up, and has changed nothing on the disk then.
		n.log.Error("given up; restarting with everything as it was", "error", err)
		n.events.Publish(api.KindMachine, request.sequence().name, "given up", err.Error())
		_ = n.run(down, sequence{name: "stop", phases: downPhases}) // stops at nothing
	} else {
		n.events.Publish(api.KindMachine, request.sequence().name, "done", "")
	}
	n.console.flush()
	if request.mode() == host.Kexec && !n.kexecOff.Load() {
		// It only returns when the kernel has none to start.
		n.log.Error("restarting through the firmware", "error", n.os.Reboot(host.Kexec))
		return n.os.Reboot(host.Restart)
	}
	mode := request.mode()
	if mode == host.Kexec {
		mode = host.Restart
	}
	return n.os.Reboot(mode)
}

// boot runs the boot sequence. Whatever it meets, the node ends up somewhere
// its API answers, if there is any way to.
func (n *node) boot(ctx context.Context) error {
	err := n.run(ctx, bootSequence)
	if ctx.Err() != nil {
		return nil // a stop was requested
	}
	if err != nil {
		return n.maintain(ctx, err)
	}
	n.setStage(running)
	n.noteBoot(upgrade.Running)
	n.log.Info("boot done", "node", n.hostname())
	return nil
}

// maintain takes a node that cannot boot to where it can be asked why: its
// config is missing or wrong, or a bug was met on the way to it.
func (n *node) maintain(ctx context.Context, why error) error {
	n.setStage(inMaintenance)
	var refused *configError
	if errors.As(why, &refused) {
		why = refused.err
	}
	n.events.Publish(api.KindConfig, "config", "refused", why.Error())
	n.mu.Lock()
	_, told := n.problems["config"]
	n.loaded = nil
	n.mu.Unlock()
	if !told { // a later phase found it, which may go well without the config
		n.problem("config", why)
	}
	n.config = nil // none of it holds: a node without a config asks DHCP
	if err := n.run(ctx, maintenanceSequence); err != nil && ctx.Err() == nil {
		return err
	}
	return nil
}

// background runs a part of machined that lasts. Its panic does not end PID 1.
// The channel is closed at its end.
func (n *node) background(ctx context.Context, name string, onPanic supervise.PanicPolicy, task func(context.Context) error) <-chan struct{} {
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := supervise.Protect(ctx, n.log, name, onPanic, task); err != nil {
			n.problem(name, err)
		}
	}()
	return done
}

// ignoredSignals would end a Go program that does not ask for them, and so the
// machine. Those that Go's runtime needs (SIGURG, SIGPROF) and the reaper's are
// not among them.
var ignoredSignals = []os.Signal{
	unix.SIGHUP, unix.SIGQUIT, unix.SIGILL, unix.SIGTRAP, unix.SIGABRT, unix.SIGBUS, unix.SIGFPE, unix.SIGSEGV,
	unix.SIGSYS, unix.SIGUSR1, unix.SIGUSR2, unix.SIGPIPE, unix.SIGALRM, unix.SIGXCPU, unix.SIGXFSZ,
}

// watchSignals takes stop requests from the kernel (SIGINT is ctrl-alt-del,
// SIGPWR a power supply that fails) and lets nothing else that another process
// sends end PID 1.
func (n *node) watchSignals(ctx context.Context) error {
	if err := n.os.WriteControl("/proc/sys/kernel/ctrl-alt-del", "0"); err != nil {
		n.log.Debug("ctrl-alt-del restarts at once", "error", err) // /proc comes later
	}
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, append([]os.Signal{unix.SIGINT, unix.SIGTERM, unix.SIGPWR}, ignoredSignals...)...)
	defer signal.Stop(signals)
	for {
		select {
		case <-ctx.Done():
			return nil
		case got := <-signals:
			var err error
			switch got {
			case unix.SIGINT:
				err = n.RequestStop(ctx, api.Stop{Kind: api.StopReboot, DrainWithin: buttonDrain, By: "ctrl-alt-del"})
			case unix.SIGTERM, unix.SIGPWR:
				err = n.RequestStop(ctx, api.Stop{Kind: api.StopShutdown, DrainWithin: buttonDrain, By: "a signal"})
			default:
				n.log.Warn("signal ignored", "signal", got.String())
			}
			if err != nil {
				n.log.Info(err.Error())
			}
		}
	}
}

// watchPowerButton shuts the node down when its button is pressed. A node
// without one, or that cannot hear it, is as good as others.
func (n *node) watchPowerButton(ctx context.Context) error {
	button, err := power.Listen()
	if err != nil {
		n.log.Debug("the power button is not heard", "error", err)
		return nil
	}
	defer button.Close()
	for {
		if err := button.Wait(ctx); err != nil {
			if ctx.Err() == nil {
				n.log.Warn("the power button is not heard any more", "error", err)
			}
			return nil
		}
		if err := n.RequestStop(ctx, api.Stop{Kind: api.StopShutdown, DrainWithin: buttonDrain, By: "the power button"}); err != nil {
			n.log.Info(err.Error())
		}
	}
}
