package main

import (
	"strings"

	"github.com/spf13/cobra"
)

func (app *app) configInfoCommand() *cobra.Command {
	command := &cobra.Command{
		Use: "info", Short: "Show the context in use, without its key", Args: cobra.NoArgs,
	}
	output := addOutput(command, asTable, asJSON, asYAML)
	command.RunE = func(*cobra.Command, []string) error {
		config, err := app.loadConfig()
		if err != nil {
			return err
		}
		_, name, err := app.currentContext()
		if err != nil {
			return err
		}
		view := app.view(config, name)
		if output.value != asTable {
			return app.printValue(output.value, view)
		}
		path, err := app.configPath()
		if err != nil {
			return err
		}
		expires := cell{text: view.Expires}
		if view.expired {
			expires = cell{view.Expires + " (expired)", red}
		}
		table := &table{}
		table.add("file", path)
		table.add("context", view.Name)
		table.add("endpoints", strings.Join(view.Endpoints, ", "))
		if len(view.Nodes) > 0 {
			table.add("nodes", strings.Join(view.Nodes, ", "))
		}
		if view.Kubernetes != "" {
			table.add("kubernetes", view.Kubernetes)
		}
		table.add("user", view.User)
		table.add("roles", strings.Join(view.Roles, ", "))
		table.add("expires", expires)
		return app.print(table)
	}
	return command
}
