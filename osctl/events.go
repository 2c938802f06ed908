package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/keelson-os/keelson/pkg/api/machine"
)

func (app *app) eventsCommand() *cobra.Command {
	command := &cobra.Command{
		Use: "events", Short: "Show what happened on the node since it started", Args: cobra.NoArgs,
	}
	output := addOutput(command, asTable, asJSON, asYAML)
	follow := command.Flags().BoolP("follow", "f", false, "keep showing new events")
	tail := command.Flags().Uint32("tail", 0, "show only so many of the newest events (0: all)")
	command.RunE = func(command *cobra.Command, _ []string) error {
		node, err := app.connect(command.Context())
		if err != nil {
			return err
		}
		stream, err := node.Machine.Events(command.Context(), &machine.EventsRequest{Follow: *follow, Tail: *tail})
		if err != nil {
			return err
		}
		return each(stream, func(event *machine.Event) error {
			if output.value == asTable {
				return app.printEvent(event)
			}
			return app.printStreamed(output.value, event)
		})
	}
	return command
}

// printEvent prints one line in columns of a fixed width: more may follow.
func (app *app) printEvent(event *machine.Event) error {
	stamp := fmt.Sprintf("%10.3fs", event.GetSinceBoot().AsDuration().Seconds())
	line := fmt.Sprintf("%-8s %-24s %s %s", event.GetKind(), event.GetSubject(),
		app.paint(actionColour(event.GetAction()), fmt.Sprintf("%-10s", event.GetAction())), event.GetMessage())
	_, err := fmt.Fprintln(app.stdout, app.paint(faint, stamp), strings.TrimRight(line, " "))
	return err
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
