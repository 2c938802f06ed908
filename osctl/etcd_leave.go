package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/keelson-os/keelson/pkg/api/etcd"
)

func (app *app) etcdLeaveCommand() *cobra.Command {
	command := &cobra.Command{
		Use: "leave", Short: "Take the node's own member out of etcd", Args: cobra.NoArgs,
		Long: `Take the node's own member out of etcd, before the node is taken away. It stays
out until the node is reset (osctl reset leaves etcd by itself).`,
	}
	force := command.Flags().Bool("force", false, "also if the members that stay have no quorum")
	yes := command.Flags().Bool("yes", false, "do not ask whether that is meant")
	command.RunE = func(command *cobra.Command, _ []string) error {
		node, err := app.connectNamed(command.Context())
		if err != nil {
			return err
		}
		if !*yes {
			status, err := node.Etcd.Status(command.Context(), &etcd.StatusRequest{})
			if err != nil {
				return fmt.Errorf("leave etcd: %w", err)
			}
			if err := app.confirm("Take %s out of etcd until it is reset?", status.GetName()); err != nil {
				return err
			}
		}
		if _, err := node.Etcd.Leave(command.Context(), &etcd.LeaveRequest{Force: *force}); err != nil {
			return fmt.Errorf("leave etcd: %w", err)
		}
		_, err = fmt.Fprintln(app.stdout, "left etcd; the node joins again after: osctl reset")
		return err
	}
	return command
}
