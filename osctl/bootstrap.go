package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/keelson-os/keelson/pkg/api/cluster"
)

func (app *app) bootstrapCommand() *cobra.Command {
	return &cobra.Command{
		Use: "bootstrap", Short: "Make the node the first of a new cluster", Args: cobra.NoArgs,
		Long: `Make the node the first member of a new cluster's etcd. It is called once, for
one control-plane node of a new cluster; the others join by themselves.`,
		RunE: func(command *cobra.Command, _ []string) error {
			node, err := app.connect(command.Context())
			if err != nil {
				return err
			}
			if _, err := node.Cluster.Bootstrap(command.Context(), &cluster.BootstrapRequest{}); err != nil {
				return fmt.Errorf("bootstrap: %w", err)
			}
			_, err = fmt.Fprintln(app.stdout, "bootstrapped; next: osctl health --wait")
			return err
		},
	}
}
