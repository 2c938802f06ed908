package main

import (
	"context"
	"errors"

	"github.com/spf13/cobra"

	"github.com/keelson-os/keelson/pkg/provision"
)

// clusterNetworkCommand is what provision starts in the background for each
// cluster; nobody calls it by hand.
func (app *app) clusterNetworkCommand() *cobra.Command {
	command := &cobra.Command{
		Use: "network", Short: "Run a cluster's network until it is ended", Hidden: true, Args: cobra.NoArgs,
	}
	dir := command.Flags().String("dir", "", "the cluster's folder")
	command.RunE = func(command *cobra.Command, _ []string) error {
		if *dir == "" {
			return usagef("--dir is required")
		}
		err := provision.RunNetwork(command.Context(), *dir)
		if errors.Is(err, context.Canceled) {
			return nil
		}
		return err
	}
	return command
}
