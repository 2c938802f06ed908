package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/keelson-os/keelson/pkg/api/machine"
	"github.com/keelson-os/keelson/pkg/version"
)

func (app *app) versionCommand() *cobra.Command {
	command := &cobra.Command{
		Use: "version", Short: "Tell the versions of osctl and of the node", Args: cobra.NoArgs,
	}
	output := addOutput(command, asTable, asJSON, asYAML)
	onlyClient := command.Flags().Bool("client", false, "ask no node")
	command.RunE = func(command *cobra.Command, _ []string) error {
		if *onlyClient {
			if output.value == asTable {
				_, err := fmt.Fprintln(app.stdout, "osctl", version.Version)
				return err
			}
			return app.printValue(output.value, map[string]string{"version": version.Version})
		}
		answer, err := app.nodeVersion(command.Context())
		if err != nil {
			if output.value == asTable {
				fmt.Fprintln(app.stdout, "osctl", version.Version) // known without the node
			}
			return err
		}
		if output.value != asTable {
			return app.printMessage(output.value, answer)
		}
		root := answer.GetRootHash()
		if root == "" {
			root = "not verified"
		}
		table := &table{}
		table.add("osctl", version.Version)
		table.add("node", answer.GetHostname())
		table.add("image", answer.GetVersion())
		table.add("kernel", answer.GetKernel())
		table.add("go", answer.GetGo()+" "+answer.GetArchitecture())
		table.add("root hash", root)
		return app.print(table)
	}
	return command
}

func (app *app) nodeVersion(ctx context.Context) (*machine.VersionResponse, error) {
	node, err := app.connect(ctx)
	if err != nil {
		return nil, err
	}
	return node.Machine.Version(ctx, &machine.VersionRequest{})
}
