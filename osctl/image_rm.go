package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/keelson-os/keelson/pkg/api/image"
)

func (app *app) imageRemoveCommand() *cobra.Command {
	return &cobra.Command{
		Use: "rm NAME…", Aliases: []string{"remove"}, Short: "Remove images from the node",
		Args: cobra.MinimumNArgs(1),
		RunE: func(command *cobra.Command, args []string) error {
			node, err := app.connect(command.Context())
			if err != nil {
				return err
			}
			for _, name := range args {
				if _, err := node.Image.Remove(command.Context(), &image.RemoveRequest{Name: name}); err != nil {
					return fmt.Errorf("remove %s: %w", name, err)
				}
				fmt.Fprintln(app.stdout, name, "removed")
			}
			return nil
		},
	}
}
