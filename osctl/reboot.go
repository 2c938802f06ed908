package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/keelson-os/keelson/pkg/api/cluster"
	"github.com/keelson-os/keelson/pkg/api/machine"
	"github.com/keelson-os/keelson/pkg/client"
)

// wayDownTimeout is how long a node may take to go down and start again: its pods
// are moved first, as slowly as their disruption budgets want it.
const wayDownTimeout = 20 * time.Minute

func (app *app) rebootCommand() *cobra.Command {
	command := &cobra.Command{
		Use: "reboot", Short: "Restart the node: stop its services in order, unmount, reboot", Args: cobra.NoArgs,
		Long: `Restart the node: move its pods away, stop its services in order, unmount,
reboot. Several nodes (-N) are restarted at once; with --wait one after the
other, each when the one before has started again and is healthy.`,
	}
	wait := command.Flags().Bool("wait", false, "wait until the node has started again")
	timeout := command.Flags().Duration("timeout", wayDownTimeout, "how long to wait, for each node")
	force := command.Flags().Bool("force", false, "do not move pods away first, and do not give them time to end")
	kexec := command.Flags().Bool("kexec", false, "start the next kernel from this one, without the firmware (installed nodes whose config allows it)")
	yes := command.Flags().BoolP("yes", "y", false, "do not ask before restarting all nodes at once")
	command.RunE = func(command *cobra.Command, _ []string) error {
		nodes, err := app.fanOutNamed(command.Context())
		if err != nil {
			return err
		}
		request := &machine.RebootRequest{Force: *force, Kexec: *kexec}
		if *wait {
			return app.rebootInTurn(command.Context(), nodes, request, *timeout)
		}
		if !*yes {
			if err := nodes.confirmAll("Restart %s at once?"); err != nil {
				return err
			}
		}
		return ask(command.Context(), nodes, answerTimeout,
			func(ctx context.Context, node *askedNode) (*machine.RebootResponse, error) {
				answer, err := node.Machine.Reboot(ctx, request)
				if err != nil {
					return nil, fmt.Errorf("reboot: %w", err)
				}
				return answer, nil
			},
			sayOfEach[*machine.RebootResponse]("rebooting"))
	}
	return command
}

// rebootInTurn restarts one node after the other, and stops at the first that
// does not come back: the cluster can bear one node less, not two.
func (app *app) rebootInTurn(ctx context.Context, nodes *fanout, request *machine.RebootRequest, timeout time.Duration) error {
	for i, node := range nodes.nodes {
		err := app.rebootAndWait(ctx, node, request, timeout)
		if err == nil && i < len(nodes.nodes)-1 {
			err = app.waitNodeHealthy(ctx, node, timeout)
		}
		if err == nil {
			continue
		}
		if !nodes.labelled || ctx.Err() != nil {
			return err
		}
		node.complain(err)
		if rest := nodes.nodes[i+1:]; len(rest) > 0 {
			return fmt.Errorf("stopped there: not restarted yet: %s", nodeList(rest))
		}
		return errReported
	}
	return nil
}

func (app *app) rebootAndWait(ctx context.Context, node *askedNode, request *machine.RebootRequest, timeout time.Duration) error {
	asked := app.now()
	watch := app.watchWayDown(ctx, node.Client)
	defer watch.end()
	if _, err := node.Machine.Reboot(ctx, request); err != nil {
		return fmt.Errorf("reboot: %w", err)
	}
	fmt.Fprintln(app.stderr, node.label()+"rebooting; waiting until the node has started again")
	if err := app.waitRebooted(ctx, node.Client, asked, timeout); err != nil {
		return err
	}
	return node.line(fmt.Sprintf("the node has started again after %s", app.now().Sub(asked).Round(time.Second)))
}

// waitRebooted waits until the kernel that answers started after asked and its
// boot sequence is done. Only durations of the node are used: its clock may
// differ from this machine's.
func (app *app) waitRebooted(ctx context.Context, node *client.Client, asked time.Time, timeout time.Duration) error {
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, fmt.Errorf("the node has not started again within %s: see its console", timeout))
	defer cancel()
	return app.poll(ctx, func(ctx context.Context) (bool, error) { return app.hasRebooted(ctx, node, asked) })
}

// waitNodeHealthy waits until all that the node checks is well, its member of
// etcd for example.
func (app *app) waitNodeHealthy(ctx context.Context, node *askedNode, timeout time.Duration) error {
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, fmt.Errorf("the node is not healthy within %s after its start", timeout))
	defer cancel()
	var last *cluster.HealthResponse
	err := app.poll(ctx, func(ctx context.Context) (bool, error) {
		answer, err := node.Cluster.Health(ctx, &cluster.HealthRequest{})
		if err == nil {
			last = answer
		}
		return answer.GetHealthy(), err
	})
	if failed := firstFailed(last); err != nil && failed != "" {
		err = fmt.Errorf("%w: %s", err, failed)
	}
	return err
}
