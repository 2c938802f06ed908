package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/keelson-os/keelson/pkg/api/etcd"
)

func (app *app) etcdForfeitCommand() *cobra.Command {
	return &cobra.Command{
		Use: "forfeit-leadership", Short: "Let another member lead, if the node's own does", Args: cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			node, err := app.connectNamed(command.Context())
			if err != nil {
				return err
			}
			answer, err := node.Etcd.ForfeitLeadership(command.Context(), &etcd.ForfeitLeadershipRequest{})
			if err != nil {
				return fmt.Errorf("forfeit leadership: %w", err)
			}
			text := "the node's member does not lead: nothing done"
			if answer.GetLeader() != "" {
				text = answer.GetLeader() + " leads now"
			}
			_, err = fmt.Fprintln(app.stdout, text)
			return err
		},
	}
}
