package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/keelson-os/keelson/pkg/api/machine"
)

func (app *app) nodeEventsCommand() *cobra.Command {
	command := &cobra.Command{
		Use: "node-events", Short: "Show what happened on the node since it started", Args: cobra.NoArgs,
	}
	output := addOutput(command, asTable, asJSON, asYAML)
	keep := command.Flags().BoolP("follow", "f", false, "keep showing new events")
	tail := command.Flags().Uint32("tail", 0, "show only so many of the newest events (0: all)")
	command.RunE = func(command *cobra.Command, _ []string) error {
		nodes, err := app.fanOut(command.Context())
		if err != nil {
			return err
		}
		return follow(command.Context(), nodes,
			func(ctx context.Context, node *askedNode) (machine.MachineService_EventsClient, error) {
				return node.Machine.Events(ctx, &machine.EventsRequest{Follow: *keep, Tail: *tail})
			},
			func(node *askedNode, event *machine.Event) error {
				if output.value == asTable {
					return node.line(app.eventLine(event))
				}
				return node.message(output.value, event)
			})
	}
	return command
}

// eventLine is one line in columns of a fixed width: more may follow.
func (app *app) eventLine(event *machine.Event) string {
	stamp := fmt.Sprintf("%10.3fs", event.GetSinceBoot().AsDuration().Seconds())
	line := fmt.Sprintf("%-8s %-24s %s %s", event.GetKind(), event.GetSubject(),
		app.paint(actionColour(event.GetAction()), fmt.Sprintf("%-10s", event.GetAction())), event.GetMessage())
	return app.paint(faint, stamp) + " " + strings.TrimRight(line, " ")
}

func actionColour(action string) colour {
	switch action {
	case "failed", "refused", "unhealthy", "exited", "panicked":
		return red
	case "healthy", "finished", "done":
		return green
	}
	return plain
}
