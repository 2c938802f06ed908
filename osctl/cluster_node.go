package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/keelson-os/keelson/pkg/client"
)

// testTool ends the help of commands that break things on purpose.
const testTool = `
This is a test tool: it acts on a virtual machine or its network, never on the
node's own API.`

func (app *app) clusterNodeCommand() *cobra.Command {
	return group("node", "Add and remove nodes, and switch their machines off and on",
		app.clusterNodeAddCommand(), app.clusterNodeRemoveCommand(),
		app.powerCommand(powerSwitch{
			use: "start", short: "Switch nodes on; one that runs is left alone", did: "is on",
			do: func(ctx context.Context, cluster machines, node string) error { return cluster.Start(ctx, node) },
		}),
		app.powerCommand(powerSwitch{
			use: "pause", short: "Freeze nodes: they look dead to the others and do not know it",
			did: "is paused; osctl cluster node resume lets it go on",
			do:  func(ctx context.Context, cluster machines, node string) error { return cluster.Pause(ctx, node) },
		}),
		app.powerCommand(powerSwitch{
			use: "resume", short: "Let paused nodes go on", did: "goes on",
			do: func(ctx context.Context, cluster machines, node string) error { return cluster.Resume(ctx, node) },
		}),
		app.powerCommand(powerSwitch{
			use: "kill", short: "Pull the plug of nodes and leave them off",
			did: "is off; osctl cluster node start switches it on",
			do:  func(ctx context.Context, cluster machines, node string) error { return cluster.PowerCut(ctx, node) },
		}),
		app.powerCommand(powerSwitch{
			use: "power-cut", short: "Pull the plug of nodes, of all before any is switched on again", did: "lost its power and boots",
			do:   func(ctx context.Context, cluster machines, node string) error { return cluster.PowerCut(ctx, node) },
			then: func(ctx context.Context, cluster machines, node string) error { return cluster.Start(ctx, node) },
		}),
		app.powerCommand(powerSwitch{
			use: "replace-disk", short: "Pull the plug of nodes and switch them on again with empty disks", did: "boots from an empty disk",
			do: func(ctx context.Context, cluster machines, node string) error {
				if err := cluster.PowerCut(ctx, node); err != nil {
					return err
				}
				return cluster.EmptyDisk(node)
			},
			then: func(ctx context.Context, cluster machines, node string) error { return cluster.Start(ctx, node) },
		}))
}

// powerSwitch is one way to switch a machine.
type powerSwitch struct {
	use, short string
	// did says what a node is after it.
	did string
	// do is done to every node, then to every node what comes after it, if anything.
	do, then func(ctx context.Context, cluster machines, node string) error
}

func (app *app) powerCommand(way powerSwitch) *cobra.Command {
	command := &cobra.Command{
		Use: way.use + " NODE…", Short: way.short, Long: way.short + ".\n" + testTool,
		Args: cobra.MinimumNArgs(1), ValidArgsFunction: app.completeMachines,
	}
	name := addClusterFlag(app, command)
	command.RunE = func(command *cobra.Command, nodes []string) error {
		cluster, err := app.localCluster(*name)
		if err != nil {
			return err
		}
		if err := checkNodes(cluster, nodes); err != nil {
			return err
		}
		for _, node := range nodes {
			if err := way.do(command.Context(), cluster, node); err != nil {
				return err
			}
		}
		for _, node := range nodes {
			if way.then == nil {
				break
			}
			if err := way.then(command.Context(), cluster, node); err != nil {
				return err
			}
		}
		for _, node := range nodes {
			fmt.Fprintf(app.stdout, "%s %s\n", node, way.did)
		}
		return nil
	}
	return command
}

// addClusterFlag gives a command the flag that names its cluster.
func addClusterFlag(app *app, command *cobra.Command) *string {
	name := command.Flags().String("cluster", "", "name of the cluster (default: the context's)")
	_ = command.RegisterFlagCompletionFunc("cluster", app.completeClusters)
	return name
}

// localCluster opens the cluster of a name, or the one of the context in use.
func (app *app) localCluster(name string) (machines, error) {
	if name == "" {
		var err error
		if _, name, err = app.currentContext(); err != nil {
			return nil, err
		}
	}
	return app.openMachines(name)
}

// checkNodes refuses names of no node before anything is done to the others.
func checkNodes(cluster machines, nodes []string) error {
	layout, err := cluster.Layout()
	if err != nil {
		return err
	}
	known := map[string]bool{}
	var names []string
	for _, node := range layout.Nodes {
		known[node.Name] = true
		names = append(names, node.Name)
	}
	for _, node := range nodes {
		if !known[node] {
			return fmt.Errorf("cluster %s has no node %q; its nodes: %s", layout.Name, node, strings.Join(names, ", "))
		}
	}
	return nil
}

// clusterAccess returns the context of a cluster on this machine.
func (app *app) clusterAccess(name string) (*client.Context, error) {
	config, err := app.loadConfig()
	if err != nil {
		return nil, err
	}
	access, ok := config.Contexts[name]
	if !ok {
		return nil, fmt.Errorf("the client config has no context for cluster %s: destroy it and create it again", name)
	}
	return access, nil
}

func (app *app) completeMachines(command *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	name, _ := command.Flags().GetString("cluster")
	cluster, err := app.localCluster(name)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	layout, err := cluster.Layout()
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var names []string
	for _, node := range layout.Nodes {
		names = append(names, node.Name)
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}
