package main

import (
	"context"
	"slices"
	"strings"
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

// completeNodes offers the nodes of the context and of the cluster; in a list of
// names it completes the last one.
func (app *app) completeNodes(command *cobra.Command, _ []string, typed string) ([]string, cobra.ShellCompDirective) {
	access, _, err := app.currentContext()
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	names := append([]string{everyNode}, access.Nodes...)
	ctx, cancel := context.WithTimeout(command.Context(), completionDeadline)
	defer cancel()
	if endpoint, err := app.connectTo(ctx, access.Options("")); err == nil {
		// Without an answer the context's own nodes are offered.
		known, _ := clusterNodes(ctx, endpoint)
		names = append(names, known...)
	}
	before := typed[:strings.LastIndex(typed, ",")+1]
	given := strings.Split(before, ",")
	var offered []string
	for _, name := range names {
		if !slices.Contains(given, name) && !slices.Contains(offered, before+name) {
			offered = append(offered, before+name)
		}
	}
	return offered, cobra.ShellCompDirectiveNoFileComp
}

func (app *app) completeServices(command *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	ctx, cancel := context.WithTimeout(command.Context(), completionDeadline)
	defer cancel()
	nodes, err := app.fanOut(ctx)
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	list, err := nodes.nodes[0].Service.List(ctx, &service.ListRequest{})
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	var names []string
	for _, service := range list.GetServices() {
		names = append(names, service.GetName())
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}
