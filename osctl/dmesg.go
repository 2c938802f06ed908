package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/keelson-os/keelson/pkg/api/log"
)

func (app *app) dmesgCommand() *cobra.Command {
	command := &cobra.Command{
		Use: "dmesg", Short: "Show the kernel's messages", Args: cobra.NoArgs,
	}
	output := addOutput(command, asTable, asJSON, asYAML)
	keep := command.Flags().BoolP("follow", "f", false, "keep showing new messages")
	tail := command.Flags().Uint32("tail", 0, "show only so many of the newest messages (0: all)")
	command.RunE = func(command *cobra.Command, _ []string) error {
		nodes, err := app.fanOut(command.Context())
		if err != nil {
			return err
		}
		return follow(command.Context(), nodes,
			func(ctx context.Context, node *askedNode) (log.LogService_KernelClient, error) {
				return node.Log.Kernel(ctx, &log.KernelRequest{Follow: *keep, Tail: *tail})
			},
			func(node *askedNode, line *log.KernelResponse) error {
				if output.value != asTable {
					return node.message(output.value, line)
				}
				stamp := fmt.Sprintf("[%12.6f]", line.GetSinceBoot().AsDuration().Seconds())
				return node.line(app.paint(faint, stamp) + " " + app.paint(priorityColour(line.GetPriority()), line.GetMessage()))
			})
	}
	return command
}

// priorityColour knows syslog's severities: 3 is an error, 4 a warning.
func priorityColour(priority uint32) colour {
	switch {
	case priority <= 3:
		return red
	case priority == 4:
		return yellow
	}
	return plain
}
