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
		shown := false
		err := app.askVersions(command.Context(), output.value, &shown)
		if err != nil && !shown && output.value == asTable {
			fmt.Fprintln(app.stdout, "osctl", version.Version) // known without the node
		}
		return err
	}
	return command
}

// askVersions shows what the nodes run; shown is set when one has answered.
func (app *app) askVersions(ctx context.Context, format string, shown *bool) error {
	nodes, err := app.fanOut(ctx)
	if err != nil {
		return err
	}
	return ask(ctx, nodes, answerTimeout,
		func(ctx context.Context, node *askedNode) (*machine.VersionResponse, error) {
			return node.Machine.Version(ctx, &machine.VersionRequest{})
		},
		func(answers []answer[*machine.VersionResponse]) error {
			*shown = true
			switch {
			case format != asTable:
				return printAnswers(nodes, format, answers)
			case nodes.labelled:
				return app.printVersions(nodes, answers)
			}
			return app.printVersion(answers[0].value)
		})
}

func (app *app) printVersion(answer *machine.VersionResponse) error {
	table := &table{}
	table.add("osctl", version.Version)
	table.add("node", answer.GetHostname())
	table.add("image", answer.GetVersion())
	table.add("kernel", answer.GetKernel())
	table.add("go", answer.GetGo()+" "+answer.GetArchitecture())
	table.add("root hash", rootHash(answer))
	return app.print(table)
}

// printVersions gives each of several nodes a line.
func (app *app) printVersions(nodes *fanout, answers []answer[*machine.VersionResponse]) error {
	table := newTable("NODE", "IMAGE", "KERNEL", "GO", "ROOT HASH")
	for _, answer := range answers {
		one := answer.value
		table.add(answer.node.name, one.GetVersion(), one.GetKernel(), one.GetGo()+" "+one.GetArchitecture(), rootHash(one))
	}
	if _, err := fmt.Fprintf(app.stdout, "osctl %s\n\n", version.Version); err != nil {
		return err
	}
	return nodes.print(table)
}

func rootHash(answer *machine.VersionResponse) string {
	if answer.GetRootHash() == "" {
		return "not verified"
	}
	return answer.GetRootHash()
}
