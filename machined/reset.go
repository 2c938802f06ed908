package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/keelson-os/keelson/machined/api"
	"github.com/keelson-os/keelson/machined/kubernetes"
	"github.com/keelson-os/keelson/machined/storage"
	"github.com/keelson-os/keelson/pkg/machineconfig"
	"github.com/keelson-os/keelson/pkg/osdisk"
)

const (
	// resetDeadline is what a reset may take beyond a reboot, and wipeTime its part
	// for the disk.
	resetDeadline = 15 * time.Minute
	wipeTime      = 10 * time.Minute
	// overwriteTime bounds the same of a reset that overwrites: 8 TB at 100 MB/s.
	overwriteTime = 24 * time.Hour
	// checkResetTime bounds what is asked before a reset is accepted.
	checkResetTime = 30 * time.Second
	// spareTime bounds the taking back of what condemned the disk; it is less than
	// a task's overtime.
	spareTime = 10 * time.Second
)

// checkReset tells whether the node can be reset. It changes nothing.
func (n *node) checkReset(ctx context.Context, config *machineconfig.Config, stop api.Stop) error {
	if config == nil {
		return errors.New("this node has no usable config, so that it is not known which disk is its own: correct the config first")
	}
	ctx, cancel := context.WithTimeout(ctx, checkResetTime)
	defer cancel()
	if err := storage.CheckWipe(ctx, n.storageOptions(config)); err != nil {
		return err
	}
	if stop.Force || config.Machine.Type != machineconfig.ControlPlane || staysMember(stop) {
		return nil
	}
	return checkLeaving(ctx)
}

// staysMember tells whether a node that is reset stays what it is to the others:
// what it has of the cluster is on EPHEMERAL.
func staysMember(stop api.Stop) bool { return slices.Contains(stop.Keep, osdisk.Ephemeral.Name) }

// resetOptions are the storage's, with what this reset leaves alone.
func (n *node) resetOptions() storage.Options {
	options := n.storageOptions(n.config)
	options.Keep = n.stop.Keep
	return options
}

// leaveCluster takes the node out of its cluster.
func (n *node) leaveCluster(ctx context.Context) error {
	// The drain may have taken a day.
	if err := n.checkReset(ctx, n.config, n.stop.Stop); err != nil {
		return err
	}
	options := n.resetOptions()
	if staysMember(n.stop.Stop) {
		return storage.Condemn(ctx, options)
	}
	n.removeNode(ctx)
	way := departure{
		condemn: func(ctx context.Context) error { return storage.Condemn(ctx, options) },
		spare:   func(ctx context.Context) error { return storage.Spare(ctx, options) },
		leave:   func(context.Context) error { return nil },
	}
	if n.isControlPlane() {
		way.leave = func(ctx context.Context) error {
			err := leaveEtcd(ctx, n.stop.Force)
			if err != nil && n.stop.Force {
				n.log.Warn("the others are not told that this node's etcd member is gone: remove it there (osctl etcd remove)", "error", err)
				return nil
			}
			return err
		}
	}
	return way.run(ctx)
}

// departure is what makes a node leave for good, or not at all.
type departure struct{ condemn, leave, spare func(context.Context) error }

// run condemns the disk before the node leaves etcd, so that a power cut between
// the two leads to a fresh node, which takes the place that the others keep for
// it. The other way round it would come back with the data of a member that is
// none.
func (d departure) run(ctx context.Context) error {
	if err := d.condemn(ctx); err != nil {
		return err
	}
	if err := d.leave(ctx); err != nil {
		// Also when the time was over: a node that has not left keeps its data.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), spareTime)
		defer cancel()
		return errors.Join(err, d.spare(ctx))
	}
	return nil
}

// removeNode removes the node from Kubernetes, where it may: a worker's stays,
// not ready, until somebody deletes it or the machine joins again.
func (n *node) removeNode(ctx context.Context) {
	if n.kubernetes == nil || n.config == nil || !n.isControlPlane() {
		return
	}
	// It would tell of its node once more.
	if err := n.stopService(ctx, kubernetes.Kubelet); err != nil {
		n.log.Warn(err.Error())
	}
	ctx, cancel := context.WithTimeout(ctx, handOverTime)
	defer cancel()
	if err := n.kubernetes.DeleteNode(ctx); err != nil {
		n.log.Warn("the node stays known to Kubernetes: osctl delete node "+n.hostname(), "error", err)
	}
}

// wipeDisk erases what the node kept. The next boot makes its file systems anew
// in any case.
func (n *node) wipeDisk(ctx context.Context) error {
	if n.config == nil {
		return nil
	}
	limit := wipeTime
	if n.stop.Overwrite {
		limit = overwriteTime
	}
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("it took longer than %s", limit))
	defer cancel()
	n.events.Publish(api.KindMachine, "disk", "wiping", "")
	erasing := storage.Erasing{Overwrite: n.stop.Overwrite, Progress: func(name string, percent int) {
		n.log.Info("overwriting", "partition", name, "done", fmt.Sprintf("%d %%", percent)) // nobody can ask any more
	}}
	if err := storage.Wipe(ctx, n.resetOptions(), erasing); err != nil {
		return fmt.Errorf("some of the old data may be left on the disk: %w", err)
	}
	return nil
}
