package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/keelson-os/keelson/pkg/provision"
)

func (app *app) clusterStatusCommand() *cobra.Command {
	command := &cobra.Command{
		Use: "status [NAME]", Short: "Show a cluster's machines (default: the current context's)",
		Long: `Show a cluster's machines (default: the current context's). CONSOLE is the file
with the newest output of a machine's console; at 8 MiB its content moves to the
file of the same name with ".old" behind it.`,
		Args: cobra.MaximumNArgs(1), ValidArgsFunction: app.completeClusters,
	}
	output := addOutput(command, asTable, asJSON, asYAML)
	command.RunE = func(command *cobra.Command, args []string) error {
		name := ""
		if len(args) == 1 {
			name = args[0]
		} else {
			_, current, err := app.currentContext()
			if err != nil {
				return err
			}
			name = current
		}
		cluster, err := openCluster(name)
		if err != nil {
			return err
		}
		status, err := cluster.Status(command.Context())
		if err != nil {
			return err
		}
		if output.value != asTable {
			return app.printValue(output.value, status)
		}
		return app.printClusterStatus(status)
	}
	return command
}

func (app *app) printClusterStatus(status provision.Status) error {
	state := machineState(status)
	internet := "no way out"
	if status.Internet {
		internet = "with a way out"
	}
	accel := string(status.Host.Accel)
	if status.Host.Why != "" {
		accel += " (no KVM: " + status.Host.Why + ")"
	}
	head := &table{}
	head.add("cluster", status.Name)
	head.add("state", cell{state, machineColour(state)})
	head.add("network", fmt.Sprintf("%s, %s", status.Subnet, internet))
	head.add("accel", accel)
	head.add("folder", status.Dir)
	if err := app.print(head); err != nil {
		return err
	}
	fmt.Fprintln(app.stdout)
	table := newTable("NODE", "STATE", "ADDRESS", "API", "KUBERNETES", "CONSOLE")
	for _, node := range status.Nodes {
		table.add(node.Name, cell{node.State, machineColour(node.State)}, node.IP, forward(node.API.IsValid(), node.API),
			forward(node.Kubernetes.IsValid(), node.Kubernetes), node.Console)
	}
	return app.print(table)
}

// forward is an address on this machine, or "-" before there is one.
func forward(valid bool, address fmt.Stringer) string {
	if !valid {
		return "-"
	}
	return address.String()
}
