package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/keelson-os/keelson/pkg/api/image"
)

func (app *app) imageListCommand() *cobra.Command {
	command := &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "List the images on the node", Args: cobra.NoArgs,
	}
	output := addOutput(command, asTable, asJSON, asYAML, asName)
	command.RunE = func(command *cobra.Command, _ []string) error {
		nodes, err := app.fanOut(command.Context())
		if err != nil {
			return err
		}
		return ask(command.Context(), nodes, answerTimeout,
			func(ctx context.Context, node *askedNode) (*image.ListResponse, error) {
				return node.Image.List(ctx, &image.ListRequest{})
			},
			func(answers []answer[*image.ListResponse]) error {
				switch output.value {
				case asTable:
					return app.printImages(nodes, answers)
				case asName:
					return printNames(answers, (*image.ListResponse).GetImages)
				}
				return printAnswers(nodes, output.value, answers)
			})
	}
	return command
}

func (app *app) printImages(nodes *fanout, answers []answer[*image.ListResponse]) error {
	table := newTable("NODE", "NAME", "DIGEST", "SIZE", "CREATED", "PINNED")
	for _, answer := range answers {
		for _, one := range answer.value.GetImages() {
			created, pinned := "-", ""
			if one.GetCreated().GetSeconds() > 0 {
				created = age(app.now().Sub(one.GetCreated().AsTime()))
			}
			switch {
			case one.GetSystem():
				pinned = "by the OS"
			case one.GetPinned():
				pinned = "yes"
			}
			table.add(answer.node.name, one.GetName(), shortDigest(one.GetDigest()), size(uint64(max(one.GetSize(), 0))), created, pinned)
		}
	}
	return nodes.print(table)
}

// shortDigest keeps as much of "sha256:…" as tells images apart.
func shortDigest(digest string) string {
	const enough = len("sha256:") + 12
	if len(digest) > enough {
		return digest[:enough]
	}
	return digest
}
