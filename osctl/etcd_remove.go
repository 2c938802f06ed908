package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/keelson-os/keelson/pkg/api/etcd"
)

func (app *app) etcdRemoveCommand() *cobra.Command {
	command := &cobra.Command{
		Use: "remove MEMBER", Short: "Take another member out of etcd, by its name or ID", Args: cobra.ExactArgs(1),
		Long: `Take another member out of etcd, by its name or ID: one whose node is lost for
good. Its data stays on its disk; the node joins anew only after a reset.`,
		ValidArgsFunction: app.completeMembers,
	}
	force := command.Flags().Bool("force", false, "also if the members that stay have no quorum")
	command.RunE = func(command *cobra.Command, args []string) error {
		node, err := app.connect(command.Context())
		if err != nil {
			return err
		}
		if _, err := node.Etcd.Remove(command.Context(), &etcd.RemoveRequest{Member: args[0], Force: *force}); err != nil {
			return fmt.Errorf("remove %s: %w", args[0], err)
		}
		_, err = fmt.Fprintf(app.stdout, "member %s removed\n", args[0])
		return err
	}
	return command
}
