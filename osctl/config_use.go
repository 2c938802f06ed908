package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/keelson-os/keelson/pkg/client"
)

func (app *app) configUseCommand() *cobra.Command {
	return &cobra.Command{
		Use: "use NAME", Short: "Choose the context that commands use", Args: cobra.ExactArgs(1),
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
				config.Current = args[0]
				return nil
			})
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(app.stdout, "using", args[0])
			return err
		},
	}
}
