package main

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"github.com/keelson-os/keelson/pkg/api/service"
)

// completionDeadline bounds how long a Tab key may wait for a node.
const completionDeadline = 2 * time.Second

func (app *app) completeContexts(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	config, err := app.loadConfig()
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	return config.Names(), cobra.ShellCompDirectiveNoFileComp
}

func (app *app) completeNodes(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	current, _, err := app.currentContext()
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	return current.Nodes, cobra.ShellCompDirectiveNoFileComp
}

func (app *app) completeServices(command *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	ctx, cancel := context.WithTimeout(command.Context(), completionDeadline)
	defer cancel()
	node, err := app.connect(ctx)
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	list, err := node.Service.List(ctx, &service.ListRequest{})
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	var names []string
	for _, service := range list.GetServices() {
		names = append(names, service.GetName())
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}
