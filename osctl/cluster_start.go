package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/keelson-os/keelson/pkg/provision"
)

func (app *app) clusterStartCommand() *cobra.Command {
	command := &cobra.Command{
		Use: "start NAME", Short: "Start what does not run of a cluster and wait until it is healthy",
		Args: cobra.ExactArgs(1), ValidArgsFunction: app.completeClusters,
	}
	noWait := command.Flags().Bool("no-wait", false, "return when the machines are started")
	var wait waitOptions
	wait.add(command)
	command.RunE = func(command *cobra.Command, args []string) error {
		cluster, err := app.openMachines(args[0])
		if err != nil {
			return err
		}
		return app.clusterStart(command.Context(), cluster, *noWait, wait)
	}
	return command
}

func (app *app) clusterStart(ctx context.Context, cluster machines, noWait bool, wait waitOptions) error {
	steps := app.newSteps()
	defer steps.end()
	cluster.OnProgress(func(event provision.Event) { steps.begin(describeEvent(event)) })
	if noWait {
		return cluster.Up(ctx)
	}
	layout, err := cluster.Layout()
	if err != nil {
		return err
	}
	// The network and the first node; bringUp starts the others in their time.
	if err := cluster.Up(ctx, layout.Nodes[0].Name); err != nil {
		return err
	}
	access, err := app.clusterAccess(cluster.Name())
	if err != nil {
		return err
	}
	if err := app.bringUp(ctx, cluster, access, steps, wait); err != nil {
		return fmt.Errorf("bring up cluster %s: %w", cluster.Name(), err)
	}
	steps.done("cluster " + cluster.Name() + " is up")
	return nil
}
