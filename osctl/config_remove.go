package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/keelson-os/keelson/pkg/client"
)

func (app *app) configRemoveCommand() *cobra.Command {
	return &cobra.Command{
		Use: "remove NAME", Aliases: []string{"rm"}, Short: "Remove a context; its cluster stays", Args: cobra.ExactArgs(1),
		ValidArgsFunction: app.completeContexts,
		RunE: func(_ *cobra.Command, args []string) error {
			path, err := app.configPath()
			if err != nil {
				return err
			}
			err = client.UpdateConfig(path, func(config *client.Config) error {
				if _, err := config.Get(args[0]); err != nil {
					return err
				}
				config.Remove(args[0])
				return nil
			})
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(app.stdout, "removed", args[0])
			return err
		},
	}
}
