package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/keelson-os/keelson/machined/api"
	"github.com/keelson-os/keelson/machined/config"
	"github.com/keelson-os/keelson/machined/install"
	"github.com/keelson-os/keelson/machined/storage"
	installapi "github.com/keelson-os/keelson/pkg/api/install"
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
	options.Booted = n.booted.Kind == install.Installed
	if !options.Booted {
		options.Selector = config.Machine.Install.DiskSelector
	}
	options.Medium = n.medium()
	return options
}

// medium is the kernel's name of the medium that the node was booted from, if any.
func (n *node) medium() string {
	if n.booted.Kind != install.Medium {
		return ""
	}
	return n.booted.Device
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
	text, err := machineconfig.Encode(n.config)
	if err != nil {
		return err
	}
	unlock, err := n.lockInstalling(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	unattended := storage.Installation{Config: text, Wipe: n.config.Machine.Install.Wipe, Replaces: n.mayReplace}
	err = n.copyImage(ctx, n.config, unattended, nil)
	if err != nil && !n.isInstalledAlready(ctx, err) {
		return err
	}
	told := n.reportInstalled(ctx)
	if err != nil && told != nil { // the next restart would come here again
		return errors.Join(err, told)
	}
	if err := n.restartInstalled(ctx); err != nil {
		return err
	}
	<-ctx.Done() // nothing of what follows is for a node that was booted from a medium
	return ctx.Err()
}

// errNobodyToTell says that no boot server wants to know of the installation.
var errNobodyToTell = errors.New("no " + config.InstalledParameter + " on the kernel command line")

// isInstalledAlready tells whether an installation failed since the disk has this
// cluster's node: the boot server was not told when it was done.
func (n *node) isInstalledAlready(ctx context.Context, failed error) bool {
	if _, given := n.commandLine.Last(config.InstalledParameter); !given || !errors.As(failed, new(*storage.InstalledError)) {
		return false
	}
	kept, err := storage.ReadConfig(ctx, n.storageOptions(n.config))
	if err != nil {
		return false
	}
	own, err := n.isOfThisCluster(kept)
	return err == nil && own
}

// reportInstalled tells the boot server, if there is one, to leave this machine to its
// disk.
func (n *node) reportInstalled(ctx context.Context) error {
	url, given := n.commandLine.Last(config.InstalledParameter)
	if !given {
		return errNobodyToTell
	}
	err := config.ReportInstalled(ctx, config.Options{Root: n.os.Root(), URL: url, Log: n.log})
	if err != nil {
		n.log.Warn("the boot server is not told that this machine is installed", "error", err)
	}
	return err
}

// restartInstalled ends the time for installations: a second one would be cut off.
func (n *node) restartInstalled(ctx context.Context) error {
	err := n.RequestStop(ctx, api.Stop{Kind: api.StopReboot, Force: true, By: "the installation"})
	n.installed = err == nil
	return err
}

// mayReplace refuses to have a node of the same cluster wiped that nobody asked for
// just now: a medium was left in, or the boot server still knows the machine.
func (n *node) mayReplace(kept []byte) error {
	own, err := n.isOfThisCluster(kept)
	if err == nil && own {
		err = errors.New("it is of this cluster; osctl reset takes a node out of it")
	}
	return err
}

// isOfThisCluster tells whether a config has the secrets of the node's own.
func (n *node) isOfThisCluster(kept []byte) (bool, error) {
	config, err := machineconfig.Decode("the config on STATE", bytes.NewReader(kept))
	if err != nil {
		return false, err
	}
	return config.Secrets != nil && n.config.Secrets != nil && config.Secrets.OSCA.Cert == n.config.Secrets.OSCA.Cert, nil
}

// installWait is how long an installation waits for another one, which mostly is the
// boot's own attempt.
const installWait = time.Minute

// lockInstalling waits until no other installation is under way.
func (n *node) lockInstalling(ctx context.Context) (unlock func(), err error) {
	ctx, cancel := context.WithTimeout(ctx, installWait)
	defer cancel()
	if err := n.installing.Acquire(ctx, 1); err != nil {
		return nil, errors.New("an installation is under way: see osctl node-events")
	}
	if n.installed {
		n.installing.Release(1)
		return nil, errors.New("the node is installed already, and restarts")
	}
	return func() { n.installing.Release(1) }, nil
}

// copyImage installs the medium's image. progress may be nil.
func (n *node) copyImage(ctx context.Context, config *machineconfig.Config, what storage.Installation, progress func(disk string, done, total int64)) error {
	image, closeMedium, err := install.Open(n.booted)
	if err != nil {
		return err
	}
	defer closeMedium()
	disk := diskOf(config)
	show := n.showProgress("installing")
	what.Image = image
	what.Chosen = func(chosen string) {
		disk = chosen
		n.log.Info("installing", "from", n.booted.Device, "to", disk)
		n.events.Publish(api.KindMachine, "install", "started", "to "+disk)
	}
	what.Progress = func(done, total int64) {
		show(done, total)
		if progress != nil {
			progress(disk, done, total)
		}
	}
	if err := storage.Install(ctx, n.storageOptions(config), what); err != nil {
		n.events.Publish(api.KindMachine, "install", "failed", err.Error())
		return err
	}
	n.events.Publish(api.KindMachine, "install", "done", "on "+disk)
	n.log.Info("installed; restarting from the disk", "disk", disk)
	return nil
}

// diskOf names the disk that a config asks for.
func diskOf(config *machineconfig.Config) string {
	if config.Machine.Install.DiskSelector.Given() {
		return "the disk that fits machine.install.diskSelector"
	}
	return config.Machine.Install.Disk
}

// Disks implements api.Installer.
func (n *node) Disks(context.Context) ([]*installapi.Disk, error) {
	disks, err := storage.ListDisks(n.os.Root(), n.medium())
	if err != nil {
		return nil, err
	}
	contents := diskContents(disks)
	var list []*installapi.Disk
	for i, d := range disks {
		list = append(list, &installapi.Disk{
			Path: d.Path, Size: d.Size, Model: d.Model, Serial: d.Serial, Wwn: d.WWN,
			Transport: d.Transport, Rotational: d.Rotational, Content: contents[i],
		})
	}
	return list, nil
}

// contentTime is what a disk may take to be looked at: one that is dying must not
// hide the others.
const contentTime = 5 * time.Second

// diskContents says what is on each disk.
func diskContents(disks []machineconfig.Disk) []string {
	contents, found := make([]string, len(disks)), make([]chan string, len(disks))
	for i, d := range disks {
		found[i] = make(chan string, 1)
		go func() {
			content, err := storage.Content(d.Path)
			if err != nil {
				content = err.Error()
			}
			found[i] <- content
		}()
	}
	late := time.After(contentTime)
	for i := range disks {
		select {
		case contents[i] = <-found[i]:
		case <-late:
			contents[i] = "not known: it does not answer"
			late = time.After(0)
		}
	}
	return contents
}

// Install implements api.Installer.
func (n *node) Install(_ context.Context, request *installapi.InstallRequest, tell func(*installapi.InstallResponse) error) error {
	text, repair := request.GetConfig(), request.GetRepair()
	switch fromMedium := n.booted.Kind == install.Medium; {
	case repair && !fromMedium:
		return errors.New("a repair writes the image of an installation medium: start the node from one")
	case n.Status().GetStage() != inMaintenance && !(repair && fromMedium):
		return errors.New("this node has a config: reset it first (osctl reset)")
	}
	config, err := machineconfig.Decode("the config", bytes.NewReader(text))
	if err != nil {
		return status.Error(codes.InvalidArgument, err.Error())
	}
	// Whoever goes away leaves no disk half written.
	ctx, cancel := context.WithTimeout(n.life, installDeadline)
	defer cancel()
	unlock, err := n.lockInstalling(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	disk := diskOf(config)
	switch n.booted.Kind {
	case install.Medium:
		what := storage.Installation{Config: text, Wipe: config.Machine.Install.Wipe && !repair, Repair: repair}
		err = n.copyImage(ctx, config, what, func(chosen string, done, total int64) {
			disk = chosen
			_ = tell(&installapi.InstallResponse{Disk: disk, Written: done, Total: total})
		})
	case install.Installed:
		err = storage.KeepConfig(ctx, n.storageOptions(config), text)
	default:
		err = errors.New("this node was given its image, and has no medium to install from: give it the config where it gets the image from")
	}
	if err != nil {
		return err
	}
	_ = n.reportInstalled(ctx) // it has logged why not
	if err := n.restartInstalled(ctx); err != nil {
		return err
	}
	return tell(&installapi.InstallResponse{Disk: disk, Done: true})
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
