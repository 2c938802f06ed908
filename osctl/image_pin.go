package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/keelson-os/keelson/pkg/api/image"
)

// imagePinCommand is pin or, its opposite, unpin.
func (app *app) imagePinCommand(pin bool) *cobra.Command {
	verb, short := "pin", "Keep images on the node however full its disk gets"
	long := `Keep images on the node however full its disk gets. kubelet removes images that no
container uses when the disk of /var is 85 % full; in a cluster without a registry
there is nowhere to fetch them from again.`
	if !pin {
		verb, short = "unpin", "Let kubelet remove images again when the disk fills up"
		long = short + "."
	}
	return &cobra.Command{
		Use: verb + " NAME…", Short: short, Long: long, Args: cobra.MinimumNArgs(1),
		RunE: func(command *cobra.Command, args []string) error {
			nodes, err := app.fanOut(command.Context())
			if err != nil {
				return err
			}
			return nodes.each(command.Context(), maxAsked, func(ctx context.Context, node *askedNode) error {
				for _, name := range args {
					if _, err := node.Image.Pin(ctx, &image.PinRequest{Name: name, Pinned: pin}); err != nil {
						return fmt.Errorf("%s %s: %w", verb, name, err)
					}
					if err := node.line(name + " " + verb + "ned"); err != nil {
						return err
					}
				}
				return nil
			})
		},
	}
}
