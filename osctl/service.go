package main

import (
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"github.com/keelson-os/keelson/pkg/api/service"
)

func (app *app) serviceCommand() *cobra.Command {
	actions := []string{"start", "stop", "restart"}
	return &cobra.Command{
		Use: "service NAME start|stop|restart", Short: "Start, stop or restart a service of the node",
		Args: cobra.ExactArgs(2),
		ValidArgsFunction: func(command *cobra.Command, args []string, start string) ([]string, cobra.ShellCompDirective) {
			if len(args) == 1 {
				return actions, cobra.ShellCompDirectiveNoFileComp
			}
			return app.completeServices(command, args, start)
		},
		RunE: func(command *cobra.Command, args []string) error {
			name, action := args[0], args[1]
			if !slices.Contains(actions, action) {
				return usagef("unknown action %q: expected start, stop or restart", action)
			}
			node, err := app.connect(command.Context())
			if err != nil {
				return err
			}
			done := ""
			switch action {
			case "start":
				done = "started"
				_, err = node.Service.Start(command.Context(), &service.StartRequest{Name: name})
			case "stop":
				done = "stopped"
				_, err = node.Service.Stop(command.Context(), &service.StopRequest{Name: name})
			case "restart":
				done = "restarted"
				_, err = node.Service.Restart(command.Context(), &service.RestartRequest{Name: name})
			}
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(app.stdout, "service %s %s\n", name, done)
			return err
		},
	}
}
