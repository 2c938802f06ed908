package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/keelson-os/keelson/pkg/api/etcd"
	"github.com/keelson-os/keelson/pkg/api/machine"
	"github.com/keelson-os/keelson/pkg/api/workload"
	"github.com/keelson-os/keelson/pkg/client"
	"github.com/keelson-os/keelson/pkg/provision"
)

func (app *app) clusterNodeRemoveCommand() *cobra.Command {
	command := &cobra.Command{
		Use: "remove NODE", Aliases: []string{"rm"}, Short: "Take a node out of its cluster and remove its machine",
		Long: `Take a node out of its cluster and remove its machine: a control-plane node
leaves etcd, the node is drained and shut down, Kubernetes forgets it, and its
machine goes with its disk. With --force the node is not asked, as for one that
is dead: the others remove it from etcd.`,
		Args: cobra.ExactArgs(1), ValidArgsFunction: app.completeMachines,
	}
	force := command.Flags().Bool("force", false, "do not ask the node: its machine ends at once")
	timeout := command.Flags().Duration("timeout", 10*time.Minute, "how long the node may take to drain and shut down")
	name := addClusterFlag(app, command)
	command.RunE = func(command *cobra.Command, args []string) error {
		cluster, err := app.localCluster(*name)
		if err != nil {
			return err
		}
		removal, err := app.planRemoval(command.Context(), cluster, args[0])
		if err != nil {
			return err
		}
		removal.timeout = *timeout
		return removal.run(command.Context(), *force)
	}
	return command
}

// removal is a node on its way out.
type removal struct {
	app     *app
	cluster machines
	node    provision.NodeLayout
	// left is how many control-plane nodes there are without it.
	left int
	// heir is where Kubernetes is reached without it.
	heir netip.AddrPort
	// own asks the node itself, others the first of the other control-plane nodes that answers.
	own, others *client.Client
	timeout     time.Duration
	steps       *steps
}

// planRemoval finds the node, and who can be asked about it.
func (app *app) planRemoval(ctx context.Context, cluster machines, name string) (*removal, error) {
	if err := checkNodes(cluster, []string{name}); err != nil {
		return nil, err
	}
	layout, err := cluster.Layout()
	if err != nil {
		return nil, err
	}
	access, err := app.clusterAccess(layout.Name)
	if err != nil {
		return nil, err
	}
	removal := &removal{app: app, cluster: cluster}
	var endpoints []string
	for _, node := range layout.Nodes {
		switch {
		case node.Name == name:
			removal.node = node
		case node.ControlPlane:
			if removal.left++; removal.left == 1 {
				removal.heir = node.Kubernetes
			}
			endpoints = append(endpoints, node.API.String())
		}
	}
	if removal.left == 0 {
		return nil, fmt.Errorf("node %s is the only control-plane node: without it there is no cluster; osctl cluster destroy %s removes all of it", name, layout.Name)
	}
	if removal.own, err = app.connectTo(ctx, access.Options(removal.node.API.String())); err != nil {
		return nil, err
	}
	options := access.Options(endpoints[0])
	options.Fallbacks = endpoints[1:]
	removal.others, err = app.connectTo(ctx, options)
	return removal, err
}

func (removal *removal) run(ctx context.Context, force bool) error {
	if removal.node.ControlPlane {
		if warning := quorumWarning(removal.left); warning != "" {
			removal.app.warn(warning)
		}
	}
	removal.steps = removal.app.newSteps()
	defer removal.steps.end()
	removal.cluster.OnProgress(func(event provision.Event) { removal.steps.begin(describeEvent(event)) })
	if force {
		if err := removal.forget(ctx); err != nil {
			return err
		}
	} else if err := removal.leave(ctx); err != nil {
		return fmt.Errorf("%w\nnothing of the machine was removed; osctl cluster node remove --force %s removes it without asking it", err, removal.node.Name)
	}
	removal.steps.begin("removing the machine of " + removal.node.Name)
	if err := removal.cluster.RemoveNode(ctx, removal.node.Name); err != nil {
		return err
	}
	if err := removal.app.changeContext(removal.cluster.Name(), func(access *client.Context) { removeNode(access, removal.node, removal.heir) }); err != nil {
		return err
	}
	removal.steps.done("node " + removal.node.Name + " is removed")
	return nil
}

// leave asks the node to go: out of etcd first, since no other member can ask
// it to drain when it is gone.
func (removal *removal) leave(ctx context.Context) error {
	name := removal.node.Name
	if removal.node.ControlPlane {
		removal.steps.begin(name + " leaves etcd")
		if _, err := asked(ctx, leaveTimeout, removal.own.Etcd.Leave, &etcd.LeaveRequest{}); err != nil {
			return fmt.Errorf("leave etcd: %w", err)
		}
	}
	removal.steps.begin("draining and shutting down " + name)
	if _, err := asked(ctx, leaveTimeout, removal.own.Machine.Shutdown, &machine.ShutdownRequest{}); err != nil {
		return fmt.Errorf("shut the node down: %w", err)
	}
	if err := removal.waitOff(ctx); err != nil {
		return err
	}
	return removal.deleteNode(ctx)
}

// leaveTimeout bounds one request to a node or about one.
const leaveTimeout = time.Minute

// waitOff waits until the machine has ended by itself.
func (removal *removal) waitOff(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, removal.timeout, fmt.Errorf("node %s is not off after %s", removal.node.Name, removal.timeout))
	defer cancel()
	return removal.app.poll(ctx, func(ctx context.Context) (bool, error) {
		state, err := removal.cluster.Status(ctx)
		if err != nil {
			return false, err
		}
		for _, node := range state.Nodes {
			if node.Name == removal.node.Name {
				return node.PID == 0, nil
			}
		}
		return true, nil
	})
}

// forget ends the machine and makes the others forget the node. Who cannot be
// asked, because too many are dead, is not: the machine goes all the same.
func (removal *removal) forget(ctx context.Context) error {
	name := removal.node.Name
	removal.steps.begin("ending the machine of " + name)
	if err := removal.cluster.PowerCut(ctx, name); err != nil {
		return err
	}
	if removal.node.ControlPlane {
		removal.steps.begin("removing " + name + " from etcd")
		_, err := asked(ctx, leaveTimeout, removal.others.Etcd.Remove, &etcd.RemoveRequest{Member: name, Force: true})
		if err != nil && status.Code(err) != codes.NotFound {
			removal.app.warn("etcd still has the member " + name + ": " + removal.app.explain(err))
		}
	}
	if err := removal.deleteNode(ctx); err != nil {
		removal.app.warn(removal.app.explain(err))
	}
	return nil
}

// deleteNode makes Kubernetes forget the node, and so its pods.
func (removal *removal) deleteNode(ctx context.Context) error {
	removal.steps.begin("deleting " + removal.node.Name + " from Kubernetes")
	ctx, cancel := context.WithTimeout(ctx, leaveTimeout)
	defer cancel()
	stream, err := removal.others.Workload.Delete(ctx, &workload.DeleteRequest{
		Selections: []*workload.Selection{{Resource: "nodes", Names: []string{removal.node.Name}}}, IgnoreNotFound: true, GracePeriodSeconds: -1,
	})
	if err == nil {
		err = each(stream, func(answer *workload.DeleteResponse) error {
			if why := answer.GetResult().GetError(); why != "" {
				return errors.New(why)
			}
			return nil
		})
	}
	if err != nil {
		return fmt.Errorf("delete the node from Kubernetes: %w", err)
	}
	return nil
}
