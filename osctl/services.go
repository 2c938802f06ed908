package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/keelson-os/keelson/pkg/api/service"
)

func (app *app) servicesCommand() *cobra.Command {
	command := &cobra.Command{
		Use: "services", Short: "List the node's services", Args: cobra.NoArgs,
	}
	output := addOutput(command, asTable, asJSON, asYAML, asName)
	command.RunE = func(command *cobra.Command, _ []string) error {
		nodes, err := app.fanOut(command.Context())
		if err != nil {
			return err
		}
		return ask(command.Context(), nodes, answerTimeout,
			func(ctx context.Context, node *askedNode) (*service.ListResponse, error) {
				return node.Service.List(ctx, &service.ListRequest{})
			},
			func(answers []answer[*service.ListResponse]) error {
				switch output.value {
				case asTable:
					return app.printServices(nodes, answers)
				case asName:
					return printNames(answers, (*service.ListResponse).GetServices)
				}
				return printAnswers(nodes, output.value, answers)
			})
	}
	return command
}

func (app *app) printServices(nodes *fanout, answers []answer[*service.ListResponse]) error {
	table := newTable("NODE", "NAME", "STATE", "HEALTH", "SINCE", "PID", "RESTARTS", "MEMORY", "CPU", "MESSAGE")
	for _, answer := range answers {
		for _, one := range answer.value.GetServices() {
			pid, since, memory := "-", "-", "-"
			if one.GetPid() != 0 {
				pid = fmt.Sprint(one.GetPid())
			}
			if one.GetSince().IsValid() && one.GetSince().GetSeconds() > 0 {
				since = age(app.now().Sub(one.GetSince().AsTime()))
			}
			if one.GetMemory() > 0 {
				memory = size(one.GetMemory())
			}
			table.add(answer.node.name, one.GetName(),
				cell{one.GetState(), stateColour(one.GetState())},
				cell{healthName(one.GetHealth()), healthColour(one.GetHealth())},
				since, pid, one.GetRestarts(), memory,
				one.GetCpu().AsDuration().Round(100*time.Millisecond),
				one.GetMessage())
		}
	}
	return nodes.print(table)
}

// healthName is a health in one word.
func healthName(health service.Service_Health) string {
	name := strings.ToLower(strings.TrimPrefix(health.String(), "HEALTH_"))
	if health == service.Service_HEALTH_UNSPECIFIED || health == service.Service_HEALTH_UNKNOWN {
		return "-"
	}
	return name
}

func healthColour(health service.Service_Health) colour {
	switch health {
	case service.Service_HEALTH_HEALTHY:
		return green
	case service.Service_HEALTH_UNHEALTHY:
		return red
	}
	return plain
}

// stateColour knows the supervisor's words.
func stateColour(state string) colour {
	switch state {
	case "running", "finished":
		return green
	case "backoff":
		return red
	case "stopped":
		return faint
	}
	return yellow
}
