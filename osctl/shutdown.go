package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/keelson-os/keelson/pkg/api/machine"
)

func (app *app) shutdownCommand() *cobra.Command {
	command := &cobra.Command{
		Use: "shutdown", Short: "Turn the node off: stop its services in order, unmount, power off", Args: cobra.NoArgs,
		Long: `Turn the node off: move its pods away, stop its services in order, unmount,
power off. Several nodes (-N) are turned off at once.`,
	}
	force := command.Flags().Bool("force", false, "do not move pods away first, and do not give them time to end")
	yes := command.Flags().BoolP("yes", "y", false, "do not ask before turning all nodes off")
	command.RunE = func(command *cobra.Command, _ []string) error {
		nodes, err := app.fanOutNamed(command.Context())
		if err != nil {
			return err
		}
		if !*yes {
			if err := nodes.confirmAll("Turn %s off?"); err != nil {
				return err
			}
		}
		return ask(command.Context(), nodes, answerTimeout,
			func(ctx context.Context, node *askedNode) (*machine.ShutdownResponse, error) {
				answer, err := node.Machine.Shutdown(ctx, &machine.ShutdownRequest{Force: *force})
				if err != nil {
					return nil, fmt.Errorf("shut down: %w", err)
				}
				return answer, nil
			},
			sayOfEach[*machine.ShutdownResponse]("shutting down"))
	}
	return command
}
