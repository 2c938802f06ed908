package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/keelson-os/keelson/pkg/api/service"
)

// serviceTimeout is how long each of several nodes may take; the node itself
// gives a service two minutes to stop.
const serviceTimeout = 3 * time.Minute

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
			nodes, err := app.fanOutNamed(command.Context())
			if err != nil {
				return err
			}
			return ask(command.Context(), nodes, serviceTimeout,
				func(ctx context.Context, node *askedNode) (string, error) { return actOn(ctx, node, name, action) },
				func(answers []answer[string]) error {
					for _, answer := range answers {
						if err := answer.node.line(fmt.Sprintf("service %s %s", name, answer.value)); err != nil {
							return err
						}
					}
					return nil
				})
		},
	}
}

// actOn does it and returns the word for what was done.
func actOn(ctx context.Context, node *askedNode, name, action string) (string, error) {
	var err error
	switch action {
	case "start":
		_, err = node.Service.Start(ctx, &service.StartRequest{Name: name})
		return "started", err
	case "stop":
		_, err = node.Service.Stop(ctx, &service.StopRequest{Name: name})
		return "stopped", err
	}
	_, err = node.Service.Restart(ctx, &service.RestartRequest{Name: name})
	return "restarted", err
}
