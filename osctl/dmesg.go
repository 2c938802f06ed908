package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/keelson-os/keelson/pkg/api/log"
)

func (app *app) dmesgCommand() *cobra.Command {
	command := &cobra.Command{
		Use: "dmesg", Short: "Show the kernel's messages", Args: cobra.NoArgs,
	}
	output := addOutput(command, asTable, asJSON, asYAML)
	follow := command.Flags().BoolP("follow", "f", false, "keep showing new messages")
	tail := command.Flags().Uint32("tail", 0, "show only so many of the newest messages (0: all)")
	command.RunE = func(command *cobra.Command, _ []string) error {
		node, err := app.connect(command.Context())
		if err != nil {
			return err
		}
		stream, err := node.Log.Kernel(command.Context(), &log.KernelRequest{Follow: *follow, Tail: *tail})
		if err != nil {
			return err
		}
		return each(stream, func(line *log.KernelResponse) error {
			if output.value != asTable {
				return app.printStreamed(output.value, line)
			}
			stamp := fmt.Sprintf("[%12.6f]", line.GetSinceBoot().AsDuration().Seconds())
			_, err := fmt.Fprintln(app.stdout, app.paint(faint, stamp), app.paint(priorityColour(line.GetPriority()), line.GetMessage()))
			return err
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
