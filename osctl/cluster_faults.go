package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/keelson-os/keelson/pkg/provision"
	"github.com/keelson-os/keelson/pkg/provision/vnet"
)

// faultNote ends the help of the commands that disturb a network.
const faultNote = `
A link between two nodes has one fault at a time, the newest. This machine
reaches all nodes as before. Faults last until osctl cluster heal; osctl cluster
status lists them.
` + testTool

func (app *app) clusterPartitionCommand() *cobra.Command {
	command := &cobra.Command{
		Use: "partition NODE[,NODE…]…", Short: "Cut nodes off from the other nodes of their cluster",
		Long: `Cut nodes off: those that are named stay connected with each other, and the
others with each other, but no frame passes between the two sides.
` + faultNote,
		Args: cobra.MinimumNArgs(1), ValidArgsFunction: app.completeMachines,
	}
	name := addClusterFlag(app, command)
	command.RunE = func(command *cobra.Command, args []string) error {
		cluster, err := app.localCluster(*name)
		if err != nil {
			return err
		}
		cut, others, err := sides(cluster, args)
		if err != nil {
			return err
		}
		if err := cluster.Partition(command.Context(), cut, others); err != nil {
			return err
		}
		_, err = fmt.Fprintf(app.stdout, "%s cut off from %s; osctl cluster heal joins them again\n",
			strings.Join(cut, ", "), strings.Join(others, ", "))
		return err
	}
	return command
}

// sides tells the nodes that are named, with commas or without, from the others.
func sides(cluster machines, args []string) (named, others []string, err error) {
	for _, arg := range args {
		for node := range strings.SplitSeq(arg, ",") {
			if !slices.Contains(named, node) {
				named = append(named, node)
			}
		}
	}
	if err := checkNodes(cluster, named); err != nil {
		return nil, nil, err
	}
	layout, err := cluster.Layout()
	if err != nil {
		return nil, nil, err
	}
	for _, node := range layout.Nodes {
		if !slices.Contains(named, node.Name) {
			others = append(others, node.Name)
		}
	}
	if len(others) == 0 {
		return nil, nil, usagef("these are all nodes of cluster %s: nothing is left to cut them off from", layout.Name)
	}
	return named, others, nil
}

func (app *app) clusterDelayCommand() *cobra.Command {
	command := &cobra.Command{
		Use: "delay NODE DURATION", Short: "Delay every frame between a node and the other nodes",
		Long: `Delay every frame between a node and the other nodes, each way: "200ms" makes a
round trip 400 ms longer; 0 ends it.
` + faultNote,
		Args: cobra.ExactArgs(2), ValidArgsFunction: app.completeMachines,
	}
	name := addClusterFlag(app, command)
	command.RunE = func(command *cobra.Command, args []string) error {
		delay, err := time.ParseDuration(args[1])
		if err != nil || delay < 0 || delay > vnet.MaxDelay {
			return usagef("DURATION %q: expected 0 to %s, such as 200ms", args[1], vnet.MaxDelay)
		}
		return app.disturb(command, *name, args[0], vnet.Fault{Delay: delay})
	}
	return command
}

func (app *app) clusterDropCommand() *cobra.Command {
	command := &cobra.Command{
		Use: "drop NODE PERCENT", Short: "Lose a share of the frames between a node and the other nodes",
		Long: `Lose a share of the frames between a node and the other nodes, each way, at
random; 0 ends it.
` + faultNote,
		Args: cobra.ExactArgs(2), ValidArgsFunction: app.completeMachines,
	}
	name := addClusterFlag(app, command)
	command.RunE = func(command *cobra.Command, args []string) error {
		percent, err := strconv.ParseFloat(strings.TrimSuffix(args[1], "%"), 64)
		if err != nil || !(percent >= 0 && percent <= 100) {
			return usagef("PERCENT %q: expected 0 to 100", args[1])
		}
		return app.disturb(command, *name, args[0], vnet.Fault{DropPercent: percent})
	}
	return command
}

// disturb gives the links between a node and each of the others a fault.
func (app *app) disturb(command *cobra.Command, clusterName, node string, fault vnet.Fault) error {
	cluster, err := app.localCluster(clusterName)
	if err != nil {
		return err
	}
	_, others, err := sides(cluster, []string{node})
	if err != nil {
		return err
	}
	var rules []vnet.FaultRule
	for _, other := range others {
		rules = append(rules, vnet.FaultRule{From: node, To: other, Fault: fault}, vnet.FaultRule{From: other, To: node, Fault: fault})
	}
	if err := cluster.SetFaults(command.Context(), rules...); err != nil {
		return err
	}
	text := describeFault(fault) + " between it and the other nodes; osctl cluster heal ends that"
	if fault == (vnet.Fault{}) {
		text = "its links are healed"
	}
	_, err = fmt.Fprintf(app.stdout, "%s: %s\n", node, text)
	return err
}

func (app *app) clusterHealCommand() *cobra.Command {
	command := &cobra.Command{
		Use: "heal", Short: "End every cut, delay and loss in a cluster's network",
		Long: "End every cut, delay and loss in a cluster's network.\n" + testTool,
		Args: cobra.NoArgs,
	}
	name := addClusterFlag(app, command)
	command.RunE = func(command *cobra.Command, _ []string) error {
		cluster, err := app.localCluster(*name)
		if err != nil {
			return err
		}
		if err := cluster.Heal(command.Context()); err != nil {
			return err
		}
		_, err = fmt.Fprintf(app.stdout, "the network of cluster %s is whole\n", cluster.Name())
		return err
	}
	return command
}

// describeFault says what happens to frames.
func describeFault(fault vnet.Fault) string {
	switch {
	case fault.Cut:
		return "no frame passes"
	case fault.DropPercent > 0 && fault.Delay > 0:
		return fmt.Sprintf("%v %% of the frames are lost, the others delayed by %s", fault.DropPercent, fault.Delay)
	case fault.DropPercent > 0:
		return fmt.Sprintf("%v %% of the frames are lost", fault.DropPercent)
	}
	return fmt.Sprintf("every frame is delayed by %s", fault.Delay)
}

// faultTable lists the faults of a network.
func faultTable(rules []vnet.FaultRule) *table {
	table := newTable("FROM", "TO", "FAULT")
	for _, rule := range rules {
		table.add(portName(rule.From), portName(rule.To), cell{describeFault(rule.Fault), red})
	}
	return table
}

// portName says whom a fault rule means.
func portName(port string) string {
	switch port {
	case provision.Gateway:
		return "this machine"
	case vnet.AnyPort:
		return "any node"
	}
	return port
}
