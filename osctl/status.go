package main

import (
	"context"
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
		nodes, err := app.fanOut(command.Context())
		if err != nil {
			return err
		}
		return ask(command.Context(), nodes, answerTimeout,
			func(ctx context.Context, node *askedNode) (nodeState, error) {
				return askState(ctx, node, output.value == asTable)
			},
			func(answers []answer[nodeState]) error {
				switch {
				case output.value != asTable:
					return printAnswers(nodes, output.value, justStatus(answers))
				case nodes.labelled:
					return printStates(nodes, answers)
				}
				return app.printStatus(answers[0].value)
			})
	}
	return command
}

// nodeState is what status shows; stats may be nil.
type nodeState struct {
	status *machine.StatusResponse
	stats  *machine.StatsResponse
}

func askState(ctx context.Context, node *askedNode, withStats bool) (state nodeState, err error) {
	if state.status, err = node.Machine.Status(ctx, &machine.StatusRequest{}); err != nil {
		return state, err
	}
	if withStats && state.status.GetStage() != machine.StatusResponse_STAGE_MAINTENANCE { // which does not have this call
		state.stats, err = node.Machine.Stats(ctx, &machine.StatsRequest{})
	}
	return state, err
}

func justStatus(answers []answer[nodeState]) []answer[*machine.StatusResponse] {
	var all []answer[*machine.StatusResponse]
	for _, one := range answers {
		all = append(all, answer[*machine.StatusResponse]{one.node, one.value.status})
	}
	return all
}

func (app *app) printStatus(state nodeState) error {
	table, answer := &table{}, state.status
	table.add("stage", cell{stageName(answer.GetStage()), stageColour(answer.GetStage())})
	if answer.GetPhase() != "" && answer.GetStage() != machine.StatusResponse_STAGE_RUNNING {
		table.add("phase", answer.GetPhase())
	}
	if stats := state.stats; stats != nil {
		table.add("uptime", age(stats.GetUptime().AsDuration()))
		table.add("memory", memoryUse(stats))
		if stats.GetVarTotal() > 0 {
			table.add("/var", varUse(stats))
		}
	}
	label := "problems"
	for _, line := range problemLines(answer) {
		table.add(label, cell{line, red})
		label = ""
	}
	return app.print(table)
}

// printStates gives each of several nodes a line, and one for each further
// problem.
func printStates(nodes *fanout, answers []answer[nodeState]) error {
	table := newTable("NODE", "STAGE", "UPTIME", "MEMORY", "/VAR", "PROBLEMS")
	for _, answer := range answers {
		state := answer.value
		uptime, memory, disk := "-", "-", "-"
		if stats := state.stats; stats != nil {
			uptime, memory = age(stats.GetUptime().AsDuration()), memoryUse(stats)
			if stats.GetVarTotal() > 0 {
				disk = varUse(stats)
			}
		}
		stage := stageName(state.status.GetStage())
		if phase := state.status.GetPhase(); phase != "" && state.status.GetStage() == machine.StatusResponse_STAGE_BOOTING {
			stage += ": " + phase
		}
		problems := problemLines(state.status)
		first := ""
		if len(problems) > 0 {
			first, problems = problems[0], problems[1:]
		}
		table.add(answer.node.name, cell{stage, stageColour(state.status.GetStage())}, uptime, memory, disk, cell{first, red})
		for _, more := range problems {
			table.add("", "", "", "", "", cell{more, red})
		}
	}
	return nodes.print(table)
}

func memoryUse(stats *machine.StatsResponse) string {
	used := stats.GetMemoryTotal() - min(stats.GetMemoryAvailable(), stats.GetMemoryTotal())
	return fmt.Sprintf("%s used of %s", size(used), size(stats.GetMemoryTotal()))
}

func varUse(stats *machine.StatsResponse) string {
	return fmt.Sprintf("%s free of %s", size(stats.GetVarAvailable()), size(stats.GetVarTotal()))
}

// problemLines are the lines of what is wrong.
func problemLines(answer *machine.StatusResponse) []string {
	var lines []string
	for _, problem := range answer.GetProblems() {
		lines = append(lines, strings.Split(strings.TrimSpace(problem), "\n")...)
	}
	return lines
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
