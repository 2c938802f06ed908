package main

import (
	"context"
	"errors"
	"time"

	"github.com/keelson-os/keelson/machined/api"
	"github.com/keelson-os/keelson/machined/host"
	"github.com/keelson-os/keelson/pkg/machineconfig"
)

const (
	// buttonDrain bounds the drain when someone stands at the machine, or a
	// power supply that will not last asks for the shutdown.
	buttonDrain = 30 * time.Second
	// endMargin is what pods may take beyond their grace periods: kubelet kills
	// them then, and unmounts their volumes.
	endMargin = 15 * time.Second
)

// stopRequest asks for the way down.
type stopRequest struct{ api.Stop }

func (r stopRequest) sequence() sequence {
	switch r.Kind {
	case api.StopReboot:
		return rebootSequence
	case api.StopReset:
		return resetSequence
	}
	return shutdownSequence
}

func (r stopRequest) mode() host.RebootMode {
	switch {
	case r.Kind == api.StopShutdown:
		return host.PowerOff
	case r.Kexec:
		return host.Kexec
	}
	return host.Restart
}

// drainTime is how long pods may take to move elsewhere; zero is no drain.
func (r stopRequest) drainTime(config *machineconfig.Config) time.Duration {
	if r.Force || config == nil {
		return 0
	}
	limit := config.Machine.Kubelet.DrainTimeout
	if r.DrainWithin > 0 {
		limit = min(limit, r.DrainWithin)
	}
	return limit
}

// endTime is how long pods may take to end here; zero is no time.
func (r stopRequest) endTime(config *machineconfig.Config) time.Duration {
	if r.Force || config == nil || config.Machine.Kubelet.ShutdownGracePeriod < time.Second {
		return 0
	}
	return config.Machine.Kubelet.ShutdownGracePeriod + endMargin
}

// deadline bounds the way down as a whole: what the pods are given is the
// config's to say.
func (r stopRequest) deadline(config *machineconfig.Config) time.Duration {
	all := shutdownDeadline + r.drainTime(config) + r.endTime(config)
	if r.Kind == api.StopReset {
		all += resetDeadline
		if r.Overwrite {
			all += overwriteTime
		}
	}
	return all
}

var errStopping = errors.New("the node is on its way down already; if it waits for pods, the same with --force ends that")

// RequestStop implements api.Node.
func (n *node) RequestStop(ctx context.Context, stop api.Stop) error {
	n.mu.Lock()
	config, onItsWay := n.loaded, n.stage == stopping
	n.mu.Unlock()
	if stop.Kind == api.StopReset && !onItsWay {
		if err := n.checkReset(ctx, config, stop); err != nil {
			return err
		}
	}
	if stop.Kexec && !onItsWay {
		if err := n.loadKexec(); err != nil {
			return err
		}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	switch {
	case n.stage != stopping:
		n.stage, n.going = stopping, stop.Kind
		n.stops <- stopRequest{stop} // has room for the only one
		return nil
	case stop.Force && stop.Kind == n.going:
		n.hurry()
		return nil
	}
	return errStopping
}

// whilePatient is ctx until the node is told to hurry.
func (n *node) whilePatient(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(n.patience, cancel)
	return ctx, func() {
		stop()
		cancel()
	}
}
