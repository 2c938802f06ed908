package main

import (
	"context"
	"fmt"
	"time"

	"github.com/keelson-os/keelson/machined/api"
	"github.com/keelson-os/keelson/machined/install"
	"github.com/keelson-os/keelson/machined/storage"
	"github.com/keelson-os/keelson/pkg/machineconfig"
)

// installDeadline bounds an installation: the slowest media read a megabyte a
// second.
const installDeadline = 30 * time.Minute

// findSource finds out what the node was booted from. A node that does not know
// takes itself for one that was given its image: it installs nothing.
func (n *node) findSource() {
	source, err := install.Find(n.os.Root())
	if err != nil {
		n.log.Warn("what the node was booted from is not known", "error", err)
		source = install.Source{Kind: install.Given}
	}
	n.booted = source
}

// disk is the block device of the node's own partitions: an installed node knows
// it, whatever the kernel calls it today.
func (n *node) disk(config *machineconfig.Config) string {
	if n.booted.Kind == install.Installed {
		return "/dev/" + n.booted.Device
	}
	return config.Machine.Install.Disk
}

func (n *node) storageOptions(config *machineconfig.Config) storage.Options {
	options := storage.Options{Disk: n.disk(config), OS: n.os, Log: n.log}
	if n.booted.Kind != install.Installed {
		options.Selector = config.Machine.Install.DiskSelector
	}
	return options
}

// readInstalledConfig reads the config that the node was installed with.
func (n *node) readInstalledConfig(ctx context.Context) ([]byte, error) {
	return storage.ReadConfig(ctx, n.storageOptions(nil))
}

// installImage copies the image of the medium that the node was booted from to
// its disk, and restarts the node. On others it does nothing.
func (n *node) installImage(ctx context.Context) error {
	if n.booted.Kind != install.Medium {
		return nil
	}
	config, err := machineconfig.Encode(n.config)
	if err != nil {
		return err
	}
	image, closeMedium, err := install.Open(n.booted)
	if err != nil {
		return err
	}
	defer closeMedium()
	options := n.storageOptions(n.config)
	n.log.Info("installing", "from", n.booted.Device, "to", options.Disk)
	n.events.Publish(api.KindMachine, "install", "started", "to "+options.Disk)
	err = storage.Install(ctx, options, storage.Installation{
		Image: image, Config: config, Wipe: n.config.Machine.Install.Wipe, Progress: n.showProgress("installing"),
	})
	if err != nil {
		return err
	}
	n.events.Publish(api.KindMachine, "install", "done", "on "+options.Disk)
	n.log.Info("installed; restarting from the disk", "disk", options.Disk)
	if err := n.RequestStop(ctx, api.Stop{Kind: api.StopReboot, Force: true, By: "the installation"}); err != nil {
		return err
	}
	<-ctx.Done() // nothing of what follows is for a node that was booted from a medium
	return ctx.Err()
}

// showProgress returns a function that tells of every tenth of some work.
func (n *node) showProgress(what string) func(done, total int64) {
	last := int64(0)
	return func(done, total int64) {
		if tenth := done * 10 / max(total, 1); tenth > last {
			last = tenth
			n.log.Info(what, "written", fmt.Sprintf("%d %%", tenth*10))
		}
	}
}
