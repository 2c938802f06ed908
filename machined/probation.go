package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/keelson-os/keelson/machined/api"
	"github.com/keelson-os/keelson/machined/host/entries"
)

const (
	probation = "probation"
	// probationTime is what an update has to be found healthy in, from power-on. A
	// first boot takes a minute on a server, and five where it is emulated.
	probationTime = 20 * time.Minute
	// probationParameter is the kernel parameter that sets another time: "5m".
	probationParameter = "keelson.probation"
	// probationCheck is how often it is looked at meanwhile. The checks are of
	// many parts, of which most announce nothing.
	probationCheck = 5 * time.Second
	// probationSettle is how long all must be well without a break.
	probationSettle = 15 * time.Second
)

// noteBoot remembers how far the boot of an image on probation got.
func (n *node) noteBoot(reached string) {
	slots := n.slots.Load()
	if slots == nil || n.Status().GetStage() == stopping || !slots.OnProbation() {
		return
	}
	if err := slots.Note(reached, n.Status().GetProblems()); err != nil {
		n.log.Warn("how far this boot got is not remembered", "error", err)
	}
}

// watchProbation blesses the running image once all of the node is well, or goes
// back to the other one when it is not in time.
func (n *node) watchProbation(ctx context.Context) error {
	tick := time.NewTicker(probationCheck)
	defer tick.Stop()
	var wellSince time.Time
	var unblessed []string // why a healthy image could not be blessed
	refused := false       // there is nothing to go back to
	for {
		select {
		case <-ctx.Done():
			return nil
		case now := <-tick.C:
			if n.Status().GetStage() == stopping {
				return nil
			}
			wrong := n.wrong(ctx)
			if len(wrong) > 0 {
				wellSince = time.Time{}
			} else if wellSince.IsZero() {
				wellSince = now
			}
			switch {
			case len(wrong) == 0 && now.Sub(wellSince) >= probationSettle:
				err := n.bless()
				if err == nil {
					return nil
				}
				n.log.Error(err.Error()) // and no problem of the node's: it is healthy
				wellSince, unblessed = time.Time{}, []string{err.Error()}
			case len(wrong)+len(unblessed) > 0 && !refused && n.os.SinceBoot() >= n.probationTime():
				err := n.goBack(ctx, append(wrong, unblessed...))
				if err == nil {
					return nil
				}
				n.log.Error(err.Error())
				refused = true // it may get well yet
			}
		}
	}
}

// probationTime is the command line's, or else the constant.
func (n *node) probationTime() time.Duration {
	value, ok := n.commandLine.Last(probationParameter)
	if !ok {
		return probationTime
	}
	given, err := time.ParseDuration(value)
	if err != nil || given <= 0 {
		n.log.Warn("a kernel parameter that is no time such as 5m", "parameter", probationParameter, "value", value)
		return probationTime
	}
	return given
}

// wrong lists the node's checks that fail.
func (n *node) wrong(ctx context.Context) []string {
	if n.Status().GetStage() != running {
		return append(n.Status().GetProblems(), "the boot is not done")
	}
	cluster := n.clusterView.Load()
	if cluster == nil {
		return []string{"the node has no cluster yet"}
	}
	ctx, cancel := context.WithTimeout(ctx, probationCheck)
	defer cancel()
	var wrong []string
	for _, check := range cluster.Health(ctx) {
		if !check.OK {
			wrong = append(wrong, check.Name+": "+check.Message)
		}
	}
	return wrong
}

func (n *node) bless() error {
	if err := n.slots.Load().Bless(); err != nil {
		return fmt.Errorf("the image is healthy, and that cannot be written down: %w", err)
	}
	n.log.Info("this image is healthy, and stays", "image", n.imageName())
	n.events.Publish(api.KindMachine, "update", "good", n.imageName()+" is healthy, and stays")
	return nil
}

// goBack gives the running image up. Where the disk does not take that, which may be
// the image's fault, the boot loader counts what the restart ends.
func (n *node) goBack(ctx context.Context, wrong []string) error {
	why := fmt.Sprintf("not healthy within %s: %s", n.probationTime(), strings.Join(wrong, "; "))
	slots := n.slots.Load()
	switch err := slots.Condemn(wrong); {
	case err == nil:
	case !errors.Is(err, entries.ErrNoOther) && slots.Counted():
		why += fmt.Sprintf("; that cannot be written down (%v), so that the boot loader has to count its boots", err)
	default:
		return fmt.Errorf("%s; going on all the same: %w", why, err)
	}
	n.events.Publish(api.KindMachine, "update", "given up", why)
	n.kexecOff.Store(true)
	n.log.Error("giving this image up: " + why)
	return n.RequestStop(ctx, api.Stop{Kind: api.StopReboot, Force: true, By: "the failed update"})
}
