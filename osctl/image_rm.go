package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/keelson-os/keelson/pkg/api/image"
)

func (app *app) imageRemoveCommand() *cobra.Command {
	return &cobra.Command{
		Use: "rm NAME…", Aliases: []string{"remove"}, Short: "Remove images from the node",
		Args: cobra.MinimumNArgs(1),
		RunE: func(command *cobra.Command, args []string) error {
			nodes, err := app.fanOut(command.Context())
			if err != nil {
				return err
			}
			return nodes.each(command.Context(), maxAsked, func(ctx context.Context, node *askedNode) error {
				for _, name := range args {
					if _, err := node.Image.Remove(ctx, &image.RemoveRequest{Name: name}); err != nil {
						return fmt.Errorf("remove %s: %w", name, err)
					}
					if err := node.line(name + " removed"); err != nil {
						return err
					}
				}
				return nil
			})
		},
	}
}
