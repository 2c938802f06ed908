package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/keelson-os/keelson/machined/api"
	"github.com/keelson-os/keelson/machined/etcd"
	"github.com/keelson-os/keelson/machined/kubernetes"
	"github.com/keelson-os/keelson/machined/logind"
	"github.com/keelson-os/keelson/machined/supervise"
	etcdapi "github.com/keelson-os/keelson/pkg/api/etcd"
)

const (
	// endGrace is how long containers and orphans may take to end by themselves.
	endGrace = 10 * time.Second
	// handOverTime bounds each call that makes it easier for the other nodes.
	handOverTime = 10 * time.Second
)

// serveLogind lets kubelet, which looks for it once when it starts, hear of the
// way down and delay it.
func (n *node) serveLogind(context.Context) error {
	if n.logind != nil {
		return nil
	}
	listener, err := logind.Listen(logind.Socket)
	if err != nil {
		return err
	}
	n.logind = logind.New(n.log)
	n.background(n.life, "kubelet's bus", supervise.RestartTask, func(ctx context.Context) error {
		return n.logind.Serve(ctx, listener)
	})
	return nil
}

// drain sees to it that pods go on elsewhere, as far as they can, before
// anything of this node ends.
func (n *node) drain(ctx context.Context) error {
	limit := n.stop.drainTime(n.config)
	if limit == 0 || n.kubernetes == nil {
		return nil
	}
	ctx, cancel := n.whilePatient(ctx)
	defer cancel()
	err := n.kubernetes.Drain(ctx, limit, func(message string) {
		n.log.Info(message)
		n.events.Publish(api.KindMachine, "drain", "progress", message)
	})
	switch {
	case errors.Is(err, kubernetes.ErrAlone):
		n.log.Info(err.Error())
		n.events.Publish(api.KindMachine, "drain", "skipped", err.Error())
		return nil
	case n.patience.Err() != nil:
		n.log.Info("hurrying: pods are not waited for any more")
		return nil
	}
	return err
}

// handOverEtcd makes another member lead at once, instead of after an election
// that begins when this one is missed. Who cannot is no worse off.
func (n *node) handOverEtcd(ctx context.Context) error {
	if n.etcd == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, forfeitTime)
	defer cancel()
	answer, err := askEtcd(ctx, func(ctx context.Context, client etcdapi.EtcdServiceClient) (*etcdapi.ForfeitLeadershipResponse, error) {
		return client.ForfeitLeadership(ctx, &etcdapi.ForfeitLeadershipRequest{})
	})
	if err != nil {
		n.log.Debug("etcd's leadership is not handed over", "error", words(err))
	} else if leader := answer.GetLeader(); leader != "" {
		n.log.Info("etcd's leadership is handed over", "to", leader)
		n.events.Publish(api.KindMachine, etcd.Name, "handed over", "to "+leader)
	}
	return nil
}

// handOverControllers ends this node's controllers and gives up their leases:
// kube-scheduler does that itself, kube-controller-manager does not.
func (n *node) handOverControllers(ctx context.Context) error {
	if n.kubernetes == nil || n.config == nil || !n.isControlPlane() {
		return nil
	}
	if err := errors.Join(n.stopService(ctx, kubernetes.ControllerManager), n.stopService(ctx, kubernetes.Scheduler)); err != nil {
		return err // one that does not end may still act: nobody else may lead yet
	}
	ctx, cancel := context.WithTimeout(ctx, handOverTime)
	defer cancel()
	n.kubernetes.ReleaseLeadership(ctx)
	return nil
}

// stopService ends a service before all the others; it does not start again.
func (n *node) stopService(ctx context.Context, name string) error {
	if n.supervisor == nil {
		return nil
	}
	if _, err := n.supervisor.Status(name); err != nil {
		return nil // the boot did not come so far
	}
	return n.supervisor.Stop(ctx, name)
}

// endPods lets kubelet end its pods, each in its own time within the config's.
func (n *node) endPods(ctx context.Context) error {
	limit := n.stop.endTime(n.config)
	if limit == 0 || n.logind == nil || n.patience.Err() != nil {
		return nil
	}
	ctx, cancel := n.whilePatient(ctx)
	defer cancel()
	ctx, cancelLimit := context.WithTimeout(ctx, limit)
	defer cancelLimit()
	return n.logind.Prepare(ctx)
}

func (n *node) stopServices(ctx context.Context) error {
	// The API server ends when its last request has: our own watch would hold
	// it until it is killed.
	n.unwatch()
	n.giveUpVirtualIPs(ctx)
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
