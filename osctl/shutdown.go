package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/keelson-os/keelson/pkg/api/machine"
)

func (app *app) shutdownCommand() *cobra.Command {
	return &cobra.Command{
		Use: "shutdown", Short: "Turn the node off: stop its services in order, unmount, power off", Args: cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			node, err := app.connect(command.Context())
			if err != nil {
				return err
			}
			if _, err := node.Machine.Shutdown(command.Context(), &machine.ShutdownRequest{}); err != nil {
				return fmt.Errorf("shut down: %w", err)
			}
			_, err = fmt.Fprintln(app.stdout, "shutting down")
			return err
		},
	}
}
