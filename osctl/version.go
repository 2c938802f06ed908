package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/keelson-os/keelson/pkg/api/machine"
	"github.com/keelson-os/keelson/pkg/api/upgrade"
	"github.com/keelson-os/keelson/pkg/osbundle"
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
		func(ctx context.Context, node *askedNode) (nodeVersion, error) {
			return askVersion(ctx, node, format == asTable && !nodes.labelled)
		},
		func(answers []answer[nodeVersion]) error {
			*shown = true
			switch {
			case format != asTable:
				return printAnswers(nodes, format, justVersions(answers))
			case nodes.labelled:
				return app.printVersions(nodes, justVersions(answers))
			}
			return app.printVersion(answers[0].value)
		})
}

// nodeVersion is what version shows; slots may be nil.
type nodeVersion struct {
	version *machine.VersionResponse
	slots   *upgrade.SlotsResponse
}

func askVersion(ctx context.Context, node *askedNode, withSlots bool) (answer nodeVersion, err error) {
	if answer.version, err = node.Machine.Version(ctx, &machine.VersionRequest{}); err != nil || !withSlots {
		return answer, err
	}
	// A node that was not installed has none, and not everybody may ask.
	answer.slots, _ = node.Upgrade.Slots(ctx, &upgrade.SlotsRequest{})
	return answer, nil
}

func justVersions(answers []answer[nodeVersion]) (all []answer[*machine.VersionResponse]) {
	for _, one := range answers {
		all = append(all, answer[*machine.VersionResponse]{one.node, one.value.version})
	}
	return all
}

func (app *app) printVersion(both nodeVersion) error {
	answer := both.version
	table := &table{}
	table.add("osctl", version.Version)
	table.add("node", answer.GetHostname())
	table.add("image", imageName(answer))
	table.add("kernel", answer.GetKernel())
	table.add("go", answer.GetGo()+" "+answer.GetArchitecture())
	table.add("root hash", rootHash(answer))
	if answer.GetSecureBoot() {
		table.add("secure boot", "on")
	}
	addSlots(table, both.slots)
	return app.print(table)
}

// imageName is version and build.
func imageName(answer *machine.VersionResponse) string {
	return osbundle.Manifest{Version: answer.GetVersion(), Build: answer.GetBuild()}.Name()
}

// addSlots says which slot runs, and what became of the last update.
func addSlots(table *table, slots *upgrade.SlotsResponse) {
	if slots == nil {
		return
	}
	running := slots.GetRunning()
	if slots.GetProbation() {
		running += ", on probation until it is healthy"
	}
	for _, slot := range slots.GetSlots() {
		if slot.GetNext() && slot.GetName() != slots.GetRunning() {
			running += "; " + slot.GetName() + " is booted next"
		}
	}
	table.add("slot", running)
	last := slots.GetLast()
	if last == nil {
		return
	}
	text := fmt.Sprintf("from %s to %s, written %s: ", last.GetFrom(), last.GetTo(), last.GetWritten().AsTime().Format(time.RFC3339))
	switch last.GetOutcome() {
	case upgrade.Update_OUTCOME_GOOD:
		text += "good"
	case upgrade.Update_OUTCOME_FAILED:
		text += "failed: " + last.GetWhy()
	case upgrade.Update_OUTCOME_UNDONE:
		text += "undone"
	default:
		text += "pending"
	}
	table.add("last update", text)
}

// printVersions gives each of several nodes a line.
func (app *app) printVersions(nodes *fanout, answers []answer[*machine.VersionResponse]) error {
	table := newTable("NODE", "IMAGE", "KERNEL", "GO", "ROOT HASH")
	for _, answer := range answers {
		one := answer.value
		table.add(answer.node.name, imageName(one), one.GetKernel(), one.GetGo()+" "+one.GetArchitecture(), rootHash(one))
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
