package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/keelson-os/keelson/pkg/api/image"
)

func (app *app) imageListCommand() *cobra.Command {
	command := &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "List the images on the node", Args: cobra.NoArgs,
	}
	output := addOutput(command, asTable, asJSON, asYAML, asName)
	command.RunE = func(command *cobra.Command, _ []string) error {
		node, err := app.connect(command.Context())
		if err != nil {
			return err
		}
		list, err := node.Image.List(command.Context(), &image.ListRequest{})
		if err != nil {
			return err
		}
		switch output.value {
		case asTable:
			return app.printImages(list.GetImages())
		case asName:
			for _, one := range list.GetImages() {
				fmt.Fprintln(app.stdout, one.GetName())
			}
			return nil
		}
		return app.printMessage(output.value, list)
	}
	return command
}

func (app *app) printImages(images []*image.Image) error {
	table := newTable("NAME", "DIGEST", "SIZE", "CREATED", "PINNED")
	for _, one := range images {
		created, pinned := "-", ""
		if one.GetCreated().GetSeconds() > 0 {
			created = age(app.now().Sub(one.GetCreated().AsTime()))
		}
		if one.GetPinned() {
			pinned = "yes"
		}
		table.add(one.GetName(), shortDigest(one.GetDigest()), size(uint64(max(one.GetSize(), 0))), created, pinned)
	}
	return app.print(table)
}

// shortDigest keeps as much of "sha256:…" as tells images apart.
func shortDigest(digest string) string {
	const enough = len("sha256:") + 12
	if len(digest) > enough {
		return digest[:enough]
	}
	return digest
}
