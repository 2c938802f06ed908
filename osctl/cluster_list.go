package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/keelson-os/keelson/pkg/provision"
)

// clusterView is a line of cluster list.
type clusterView struct {
	Name  string `json:"name"`
	State string `json:"state"`
	Nodes int    `json:"nodes"`
	Accel string `json:"accel,omitempty"`
	// Problem says what is wrong with a cluster that cannot be opened.
	Problem string `json:"problem,omitempty"`
}

func (app *app) clusterListCommand() *cobra.Command {
	command := &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "List the clusters on this machine", Args: cobra.NoArgs,
	}
	output := addOutput(command, asTable, asJSON, asYAML, asName)
	command.RunE = func(command *cobra.Command, _ []string) error {
		names, err := provision.List()
		if err != nil {
			return err
		}
		if output.value == asName {
			for _, name := range names {
				fmt.Fprintln(app.stdout, name)
			}
			return nil
		}
		views := []clusterView{}
		for _, name := range names {
			views = append(views, viewCluster(command.Context(), name))
		}
		if output.value != asTable {
			return app.printValue(output.value, views)
		}
		if len(views) == 0 {
			_, err := fmt.Fprintln(app.stderr, "no clusters yet: osctl cluster create NAME makes one")
			return err
		}
		table := newTable("NAME", "STATE", "NODES", "ACCEL", "PROBLEM")
		for _, view := range views {
			table.add(view.Name, cell{view.State, machineColour(view.State)}, view.Nodes, view.Accel, view.Problem)
		}
		return app.print(table)
	}
	return command
}

func viewCluster(ctx context.Context, name string) clusterView {
	cluster, err := provision.Open(name)
	if err != nil {
		return clusterView{Name: name, State: "incomplete", Problem: err.Error()}
	}
	status, err := cluster.Status(ctx)
	if err != nil {
		return clusterView{Name: name, State: "unknown", Problem: err.Error()}
	}
	return clusterView{Name: name, State: machineState(status), Nodes: len(status.Nodes), Accel: string(status.Host.Accel)}
}
