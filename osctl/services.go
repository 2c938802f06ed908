package main

import (
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
		node, err := app.connect(command.Context())
		if err != nil {
			return err
		}
		list, err := node.Service.List(command.Context(), &service.ListRequest{})
		if err != nil {
			return err
		}
		switch output.value {
		case asTable:
			return app.printServices(list.GetServices())
		case asName:
			for _, one := range list.GetServices() {
				fmt.Fprintln(app.stdout, one.GetName())
			}
			return nil
		}
		return app.printMessage(output.value, list)
	}
	return command
}

func (app *app) printServices(services []*service.Service) error {
	table := newTable("NAME", "STATE", "HEALTH", "SINCE", "PID", "RESTARTS", "MEMORY", "CPU", "MESSAGE")
	for _, one := range services {
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
		table.add(one.GetName(),
			cell{one.GetState(), stateColour(one.GetState())},
			cell{healthName(one.GetHealth()), healthColour(one.GetHealth())},
			since, pid, one.GetRestarts(), memory,
			one.GetCpu().AsDuration().Round(100*time.Millisecond),
			one.GetMessage())
	}
	return app.print(table)
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
