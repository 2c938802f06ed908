package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// endGrace is how long containers and orphans may take to end by themselves.
const endGrace = 10 * time.Second

func (n *node) stopServices(ctx context.Context) error {
	// The API server ends when its last request has: our own watch would hold
	// it until it is killed.
	n.unwatch()
	if n.supervisor == nil {
		return nil
	}
	return n.supervisor.StopAll(ctx)
}

// endProcesses ends what no service's end took with it: containers live on
// without containerd. They would hold the disk's file systems.
func (n *node) endProcesses(ctx context.Context) error {
	if os.Getpid() != 1 {
		return errors.New("only process 1 ends all others")
	}
	asked, cancel := context.WithTimeout(ctx, endGrace)
	defer cancel()
	for _, step := range []struct {
		signal unix.Signal
		ctx    context.Context
	}{{unix.SIGTERM, asked}, {unix.SIGKILL, ctx}} {
		// To every process but this one and the kernel's.
		if err := unix.Kill(-1, step.signal); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("signal all processes: %w", err)
		}
		if n.reaper.WaitChildless(step.ctx) == nil {
			return nil
		}
	}
	return errors.New("some processes do not end, not even when killed")
}

func (n *node) closeNetwork(context.Context) error {
	if n.network == nil {
		return nil
	}
	return n.network.Close()
}

// closeStorage unmounts the disk. What cannot be unmounted is at least flushed.
func (n *node) closeStorage(ctx context.Context) error {
	defer n.os.Sync()
	n.mu.Lock()
	n.hasVar = false
	n.mu.Unlock()
	if n.storage == nil {
		return nil
	}
	return n.storage.Close(ctx)
}
