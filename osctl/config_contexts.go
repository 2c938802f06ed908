package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

func (app *app) configContextsCommand() *cobra.Command {
	command := &cobra.Command{
		Use: "contexts", Short: "List the contexts", Args: cobra.NoArgs,
	}
	output := addOutput(command, asTable, asJSON, asYAML, asName)
	command.RunE = func(*cobra.Command, []string) error {
		config, err := app.loadConfig()
		if err != nil {
			return err
		}
		views := []contextView{}
		for _, name := range config.Names() {
			views = append(views, app.view(config, name))
		}
		switch output.value {
		case asTable:
			return app.printContexts(views)
		case asName:
			for _, view := range views {
				fmt.Fprintln(app.stdout, view.Name)
			}
			return nil
		}
		return app.printValue(output.value, views)
	}
	return command
}

func (app *app) printContexts(views []contextView) error {
	if len(views) == 0 {
		_, err := fmt.Fprintln(app.stderr, "no contexts yet: osctl cluster create makes one")
		return err
	}
	table := newTable("CURRENT", "NAME", "ENDPOINTS", "ROLES")
	for _, view := range views {
		current := ""
		if view.Current {
			current = "*"
		}
		table.add(cell{current, green}, view.Name, strings.Join(view.Endpoints, ","), strings.Join(view.Roles, ","))
	}
	return app.print(table)
}
