package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/keelson-os/keelson/pkg/client"
	"github.com/keelson-os/keelson/pkg/pki"
)

func (app *app) configCommand() *cobra.Command {
	return group("config", "Show and choose the contexts of the client config",
		app.configContextsCommand(), app.configUseCommand(), app.configInfoCommand(), app.configRemoveCommand())
}

// contextView is a context without its key.
type contextView struct {
	Name       string   `json:"name"`
	Current    bool     `json:"current"`
	Endpoints  []string `json:"endpoints"`
	Nodes      []string `json:"nodes,omitempty"`
	Kubernetes string   `json:"kubernetes,omitempty"`
	User       string   `json:"user,omitempty"`
	Roles      []string `json:"roles,omitempty"`
	Expires    string   `json:"expires,omitempty"`
	expired    bool
}

func (app *app) view(config *client.Config, name string) contextView {
	context := config.Contexts[name]
	view := contextView{
		Name: name, Current: name == config.Current,
		Endpoints: context.Endpoints, Nodes: context.Nodes, Kubernetes: context.Kubernetes,
	}
	if cert, err := pki.ParseCert([]byte(context.Cert)); err == nil {
		view.User, view.Roles = cert.Subject.CommonName, cert.Subject.Organization
		view.Expires = cert.NotAfter.UTC().Format("2006-01-02")
		view.expired = app.now().After(cert.NotAfter)
	}
	return view
}

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

func (app *app) configUseCommand() *cobra.Command {
	return &cobra.Command{
		Use: "use NAME", Short: "Choose the context that commands use", Args: cobra.ExactArgs(1),
		ValidArgsFunction: app.completeContexts,
		RunE: func(_ *cobra.Command, args []string) error {
			path, err := app.configPath()
			if err != nil {
				return err
			}
			err = client.UpdateConfig(path, func(config *client.Config) error {
				if _, err := config.Get(args[0]); err != nil {
					return err
				}
				config.Current = args[0]
				return nil
			})
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(app.stdout, "using", args[0])
			return err
		},
	}
}

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

func (app *app) configRemoveCommand() *cobra.Command {
	return &cobra.Command{
		Use: "remove NAME", Aliases: []string{"rm"}, Short: "Remove a context; its cluster stays", Args: cobra.ExactArgs(1),
		ValidArgsFunction: app.completeContexts,
		RunE: func(_ *cobra.Command, args []string) error {
			path, err := app.configPath()
			if err != nil {
				return err
			}
			err = client.UpdateConfig(path, func(config *client.Config) error {
				if _, err := config.Get(args[0]); err != nil {
					return err
				}
				config.Remove(args[0])
				return nil
			})
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(app.stdout, "removed", args[0])
			return err
		},
	}
}
