package main

import (
	"context"
	"errors"
	"io/fs"
	"time"

	"github.com/keelson-os/keelson/machined/host"
)

const (
	// watchdogTimeout is when a machine that hangs is reset. Process 1 is asked for
	// a sign of life far more often; a machine that is only slow gives it in time.
	watchdogTimeout = 2 * time.Minute
	// softWatchdog is the kernel's own, for machines without one: it notices a hang
	// of process 1, not of the kernel.
	softWatchdog = "softdog"
)

// keepWatchdog has the machine reset if it hangs: an update that does so is
// counted like one that panics.
func (n *node) keepWatchdog(ctx context.Context) error {
	dog, err := host.OpenWatchdog(host.WatchdogDevice, watchdogTimeout)
	if errors.Is(err, fs.ErrNotExist) && n.modules != nil {
		if err := n.load(ctx, []string{softWatchdog}); err != nil {
			return err
		}
		dog, err = host.OpenWatchdog(host.WatchdogDevice, watchdogTimeout)
	}
	if err != nil {
		n.log.Warn("no watchdog: a machine that hangs stays so", "error", err)
		return nil
	}
	n.log.Info("watchdog started", "device", dog.Identity, "timeout", dog.Timeout)
	tick := time.NewTicker(dog.Timeout / 8)
	defer tick.Stop()
	for {
		if err := dog.Pet(); err != nil {
			n.log.Warn("the watchdog does not take a sign of life", "error", err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}
