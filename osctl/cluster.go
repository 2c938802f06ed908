package main

import "github.com/spf13/cobra"

func (app *app) clusterCommand() *cobra.Command {
	return group("cluster", "Create and destroy clusters of virtual machines on this machine")
}
