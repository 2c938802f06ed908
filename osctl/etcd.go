package main

import (
	"cmp"
	"context"

	"github.com/spf13/cobra"

	"github.com/keelson-os/keelson/pkg/api/cluster"
	"github.com/keelson-os/keelson/pkg/api/etcd"
)

func (app *app) etcdCommand() *cobra.Command {
	command := group("etcd", "Look after the cluster's store: members, snapshots, space",
		app.etcdMembersCommand(), app.etcdStatusCommand(), app.etcdRemoveCommand(), app.etcdLeaveCommand(),
		app.etcdForfeitCommand(), app.etcdDefragCommand(), app.etcdAlarmsCommand(), app.etcdSnapshotCommand(),
		app.etcdSnapshotsCommand())
	command.Long = `Look after etcd, the cluster's store. It runs on control-plane nodes only: -N
names one of them, "all" stands for all of them.`
	return command
}

// etcdNodes are the nodes that -N names; all of them are those that run etcd.
func (app *app) etcdNodes(ctx context.Context) (*fanout, error) {
	return app.fanOut(ctx, (*cluster.Node).GetControlPlane)
}

// completeSnapshots offers the names of the snapshots that the node keeps.
func (app *app) completeSnapshots(command *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	ctx, cancel := context.WithTimeout(command.Context(), completionDeadline)
	defer cancel()
	node, err := app.connect(ctx)
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	list, err := node.Etcd.Snapshots(ctx, &etcd.SnapshotsRequest{})
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	var names []string
	for _, one := range list.GetSnapshots() {
		names = append(names, one.GetName())
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

// completeMembers offers the names of etcd's members.
func (app *app) completeMembers(command *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	ctx, cancel := context.WithTimeout(command.Context(), completionDeadline)
	defer cancel()
	node, err := app.connect(ctx)
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	list, err := node.Etcd.Members(ctx, &etcd.MembersRequest{})
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	var names []string
	for _, member := range list.GetMembers() {
		names = append(names, cmp.Or(member.GetName(), member.GetId()))
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}
