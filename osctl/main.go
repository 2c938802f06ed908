package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/keelson-os/keelson/pkg/version"
)

func main() { os.Exit(run()) }

// run calls the command and returns the exit code.
func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	app := newApp()
	// A second Ctrl-C ends the program at once, whatever it does.
	context.AfterFunc(ctx, stop)
	return app.execute(ctx, os.Args[1:])
}

// root is the command list.
func (app *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "osctl",
		Short: "Drive Keelson nodes, clusters, and what runs on them",
		Long: `osctl drives Keelson nodes and clusters, and what runs on them.

A node is asked with -N NAME, several at once with -N NAME,NAME or -N all. They
are reached through one endpoint of the context. Answers of several nodes tell
whose they are: tables begin with a column NODE, lines with "NAME: "; JSON and
YAML are a list of objects with the field "node", or for what is streamed (logs,
events, dmesg, image import) one object on a line or in a YAML document. A node
that fails costs one line on standard error and the exit code 1; the answers of
the others are shown.

Exit codes: 0 success; 1 the command did not succeed; 2 it was called wrongly;
130 it was interrupted; "exec" passes on the exit code of the program it ran.
Environment: OSCTL_CONFIG is the path of the client config, NO_COLOR switches
colours off.`,
		Version:       version.Version,
		SilenceErrors: true,
		SilenceUsage:  true,
		PersistentPreRunE: func(command *cobra.Command, _ []string) error {
			// cobra looks at both after this: too late to tell a wrong call by.
			for _, validate := range []func() error{command.ValidateRequiredFlags, command.ValidateFlagGroups} {
				if err := validate(); err != nil {
					return err
				}
			}
			app.started = true
			return nil
		},
	}
	root.SetVersionTemplate("{{.Version}}\n")
	app.globalFlags(root)

	root.AddGroup(
		&cobra.Group{ID: "cluster", Title: "Clusters:"},
		&cobra.Group{ID: "node", Title: "Nodes:"},
		&cobra.Group{ID: "workload", Title: "Workloads:"},
		&cobra.Group{ID: "config", Title: "Configuration:"},
	)
	in := func(group string, commands ...*cobra.Command) {
		for _, command := range commands {
			command.GroupID = group
			root.AddCommand(command)
		}
	}
	in("cluster",
		app.clusterCommand(),
		app.bootstrapCommand(),
		app.etcdCommand(),
		app.healthCommand(),
		app.kubeconfigCommand(),
	)
	in("node",
		app.versionCommand(),
		app.statusCommand(),
		app.servicesCommand(),
		app.serviceCommand(),
		app.logsCommand(),
		app.dmesgCommand(),
		app.nodeEventsCommand(),
		app.imageCommand(),
		app.netbootCommand(),
		app.rebootCommand(),
		app.upgradeCommand(),
		app.rollbackCommand(),
		app.installCommand(),
		app.disksCommand(),
		app.shutdownCommand(),
		app.resetCommand(),
	)
	in("workload",
		app.applyCommand(),
		app.getCommand(),
		app.deleteCommand(),
		app.execCommand(),
	)
	in("workload", app.kubectlCommands()...)
	in("config",
		app.genCommand(),
		app.validateCommand(),
		app.configCommand(),
	)
	root.AddCommand(app.docsCommand())
	return root
}
