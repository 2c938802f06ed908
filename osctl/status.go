package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/keelson-os/keelson/pkg/api/machine"
)

func (app *app) statusCommand() *cobra.Command {
	command := &cobra.Command{
		Use: "status", Short: "Tell how far the node is and what it uses", Args: cobra.NoArgs,
		Long: `Tell how far the node is and what it uses.

A node that has no usable config is in maintenance mode; it answers too, with
what its console shows:
  osctl status --endpoint HOST --fingerprint HEX --pairing-code CODE`,
	}
	output := addOutput(command, asTable, asJSON, asYAML)
	command.RunE = func(command *cobra.Command, _ []string) error {
		node, err := app.connect(command.Context())
		if err != nil {
			return err
		}
		answer, err := node.Machine.Status(command.Context(), &machine.StatusRequest{})
		if err != nil {
			return err
		}
		if output.value != asTable {
			return app.printMessage(output.value, answer)
		}
		var stats *machine.StatsResponse
		if answer.GetStage() != machine.StatusResponse_STAGE_MAINTENANCE { // which does not have this call
			if stats, err = node.Machine.Stats(command.Context(), &machine.StatsRequest{}); err != nil {
				return err
			}
		}
		return app.printStatus(answer, stats)
	}
	return command
}

// printStatus prints the node's state; stats may be nil.
func (app *app) printStatus(answer *machine.StatusResponse, stats *machine.StatsResponse) error {
	table := &table{}
	table.add("stage", cell{stageName(answer.GetStage()), stageColour(answer.GetStage())})
	if answer.GetPhase() != "" && answer.GetStage() != machine.StatusResponse_STAGE_RUNNING {
		table.add("phase", answer.GetPhase())
	}
	if stats != nil {
		table.add("uptime", age(stats.GetUptime().AsDuration()))
		table.add("memory", fmt.Sprintf("%s used of %s",
			size(stats.GetMemoryTotal()-min(stats.GetMemoryAvailable(), stats.GetMemoryTotal())), size(stats.GetMemoryTotal())))
		if stats.GetVarTotal() > 0 {
			table.add("/var", fmt.Sprintf("%s free of %s", size(stats.GetVarAvailable()), size(stats.GetVarTotal())))
		}
	}
	for i, problem := range answer.GetProblems() {
		label := ""
		if i == 0 {
			label = "problems"
		}
		for _, line := range strings.Split(strings.TrimSpace(problem), "\n") {
			table.add(label, cell{line, red})
			label = ""
		}
	}
	return app.print(table)
}

// stageName is a stage in one word.
func stageName(stage machine.StatusResponse_Stage) string {
	return strings.ToLower(strings.TrimPrefix(stage.String(), "STAGE_"))
}

func stageColour(stage machine.StatusResponse_Stage) colour {
	if stage == machine.StatusResponse_STAGE_RUNNING {
		return green
	}
	return yellow
}
