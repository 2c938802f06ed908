package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/keelson-os/keelson/machined/api"
	"github.com/keelson-os/keelson/machined/host"
	"github.com/keelson-os/keelson/machined/host/verity"
)

// verityEvent is in the kernel's event when a block does not match its hash
// (drivers/md/dm-verity-target.c, DM_VERITY_ENV_VAR_NAME).
const verityEvent = "DM_VERITY_ERR_BLOCK_NR"

// watchRoot waits until the kernel meets a block of the root image that does not
// match its hash, and goes back to the other slot then.
func (n *node) watchRoot(ctx context.Context) error {
	uevents, err := host.ListenUevents()
	if err != nil {
		return err
	}
	defer uevents.Close()
	for hint := ""; ; {
		// The kernel is asked, not the event: anyone may send one, and some blocks
		// were read before.
		damaged, err := verity.Damaged(verity.RootDevice)
		if err != nil {
			return err
		}
		if damaged {
			n.rootDamaged(ctx, hint)
			return nil
		}
		for hint = ""; hint == ""; {
			event, err := uevents.Next(ctx)
			switch {
			case ctx.Err() != nil:
				return nil
			case errors.Is(err, host.ErrUeventsLost):
				hint = "events were lost"
			case err != nil:
				return err
			default:
				hint = event.Env[verityEvent]
			}
		}
	}
}

// rootDamaged goes back to the other slot: sooner or later a service needs what
// cannot be read any more.
func (n *node) rootDamaged(ctx context.Context, block string) {
	detail := "the kernel met a block that does not match its hash"
	if block != "" {
		detail += " (" + block + ")"
	}
	n.events.Publish(api.KindMachine, "root image", "damaged", detail)
	var err error
	if slots := n.slots.Load(); slots.OnProbation() {
		err = slots.Condemn([]string{"the root image on the disk is damaged: " + detail})
	} else {
		err = slots.Abandon(detail)
	}
	if err != nil {
		n.problem("root image", fmt.Errorf("it is damaged on the disk, and this node has to go on with it: %s: %w; update the node, which writes the other slot, or replace the disk", detail, err))
		return
	}
	n.kexecOff.Store(true)
	n.log.Error("the root image is damaged on the disk; going back to the image in the other slot: " + detail)
	if err := n.RequestStop(ctx, api.Stop{Kind: api.StopReboot, DrainWithin: buttonDrain, By: "the damaged root image"}); err != nil {
		n.problem("root image", err)
	}
}
