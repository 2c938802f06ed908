package main

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	cmdutil "k8s.io/kubectl/pkg/cmd/util"
	"k8s.io/kubectl/pkg/util/completion"

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

// completeObjects offers what complete, one of kubectl's completions, finds in the
// namespace that the flags name.
func (app *app) completeObjects(complete func(cmdutil.Factory) completer) completer {
	return func(command *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
		k := &kubernetes{app: app}
		k.namespace, _ = command.Flags().GetString("namespace")
		defer k.close()
		return complete(k.factory())(command, args, typed)
	}
}

// commonResources are offered when the cluster does not say in time what it has.
var commonResources = []string{
	"configmaps", "cronjobs", "daemonsets", "deployments", "endpointslices", "events", "ingresses", "jobs", "namespaces",
	"nodes", "persistentvolumeclaims", "pods", "replicasets", "secrets", "serviceaccounts", "services", "statefulsets",
}

// completeResources offers resources, and then the names of their objects.
func (app *app) completeResources(command *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
	offered, directive := app.completeObjects(completion.ResourceTypeAndNameCompletionFunc)(command, args, typed)
	if len(args) == 0 && len(offered) == 0 && !strings.Contains(typed, "/") {
		return commonResources, cobra.ShellCompDirectiveNoFileComp
	}
	return offered, directive
}

// completeNamespaces makes the Tab key offer namespaces after -n.
func (app *app) completeNamespaces(command *cobra.Command) {
	_ = command.RegisterFlagCompletionFunc("namespace", app.completeObjects(func(f cmdutil.Factory) completer {
		return func(command *cobra.Command, _ []string, typed string) ([]string, cobra.ShellCompDirective) {
			return completion.CompGetResource(f, "namespace", typed), cobra.ShellCompDirectiveNoFileComp
		}
	}))
}

// completeLogs offers services, and pods where it must be one.
func (app *app) completeLogs(command *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
	if strings.Contains(typed, "/") || command.Flags().Changed("namespace") {
		return app.completeObjects(completion.PodResourceNameCompletionFunc)(command, args, typed)
	}
	return app.completeServices(command, args, typed)
}

// completer is what cobra calls for the next argument.
type completer = func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective)

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
