package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/keelson-os/keelson/pkg/api/machine"
	"github.com/keelson-os/keelson/pkg/client"
)

func (app *app) rebootCommand() *cobra.Command {
	command := &cobra.Command{
		Use: "reboot", Short: "Restart the node: stop its services in order, unmount, reboot", Args: cobra.NoArgs,
	}
	wait := command.Flags().Bool("wait", false, "wait until the node has started again")
	timeout := command.Flags().Duration("timeout", 10*time.Minute, "how long to wait")
	command.RunE = func(command *cobra.Command, _ []string) error {
		node, err := app.connect(command.Context())
		if err != nil {
			return err
		}
		asked := app.now()
		if _, err := node.Machine.Reboot(command.Context(), &machine.RebootRequest{}); err != nil {
			return fmt.Errorf("reboot: %w", err)
		}
		if !*wait {
			_, err := fmt.Fprintln(app.stdout, "rebooting")
			return err
		}
		fmt.Fprintln(app.stderr, "rebooting; waiting until the node has started again")
		if err := app.waitRebooted(command.Context(), node, asked, *timeout); err != nil {
			return err
		}
		_, err = fmt.Fprintf(app.stdout, "the node has started again after %s\n", app.now().Sub(asked).Round(time.Second))
		return err
	}
	return command
}

// waitRebooted waits until the kernel that answers started after asked and its
// boot sequence is done. Only durations of the node are used: its clock may
// differ from this machine's.
func (app *app) waitRebooted(ctx context.Context, node *client.Client, asked time.Time, timeout time.Duration) error {
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, fmt.Errorf("the node has not started again within %s: see its console", timeout))
	defer cancel()
	return app.poll(ctx, func(ctx context.Context) (bool, error) {
		stats, err := node.Machine.Stats(ctx, &machine.StatsRequest{})
		if err != nil || app.now().Add(-stats.GetUptime().AsDuration()).Before(asked) {
			return false, err
		}
		state, err := node.Machine.Status(ctx, &machine.StatusRequest{})
		return state.GetStage() == machine.StatusResponse_STAGE_RUNNING, err
	})
}
