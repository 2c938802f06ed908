package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"github.com/keelson-os/keelson/pkg/client"
	"github.com/keelson-os/keelson/pkg/machineconfig"
	"github.com/keelson-os/keelson/pkg/provision"
)

// addOptions are the flags of cluster node add.
type addOptions struct {
	controlPlane bool
	count        int
	size         machineSize
	patches      patchFlags
	noWait       bool
	wait         waitOptions
}

func (app *app) clusterNodeAddCommand() *cobra.Command {
	var options addOptions
	command := &cobra.Command{
		Use: "add [CLUSTER]", Short: "Add workers or control-plane nodes to a cluster and wait until they are ready",
		Long: `Add workers, or control-plane nodes, to a cluster (default: the context's) and
wait until they are ready. They get the next names and addresses, and the config
of the nodes of their kind that are there.`,
		Args: cobra.MaximumNArgs(1), ValidArgsFunction: app.completeClusters,
	}
	flags := command.Flags()
	flags.BoolVar(&options.controlPlane, "control-plane", false, "add control-plane nodes, not workers")
	flags.IntVar(&options.count, "count", 1, "number of nodes to add")
	options.size.add(command)
	flags.StringArrayVar(&options.patches.all, "config-patch", nil,
		"FILE (or @FILE) with documents of kind Machine or Cluster that hold what differs in the new nodes' config; may be repeated")
	flags.BoolVar(&options.noWait, "no-wait", false, "return when the machines are started")
	options.wait.add(command)
	name := addClusterFlag(app, command)
	command.RunE = func(command *cobra.Command, args []string) error {
		if len(args) == 1 {
			if *name != "" && *name != args[0] {
				return usagef("cluster %s or --cluster %s: name one", args[0], *name)
			}
			*name = args[0]
		}
		if options.count < 1 {
			return usagef("--count %d: expected 1 or more", options.count)
		}
		cluster, err := app.localCluster(*name)
		if err != nil {
			return err
		}
		return app.addNodes(command.Context(), cluster, &options)
	}
	return command
}

func (app *app) addNodes(ctx context.Context, cluster machines, options *addOptions) error {
	access, err := app.clusterAccess(cluster.Name())
	if err != nil {
		return err
	}
	grown := &grownConfigs{cluster: cluster}
	if grown.patches, err = options.patches.read(); err != nil {
		return err
	}
	state, err := cluster.Status(ctx)
	if err != nil {
		return err
	}
	if !state.Bootstrapped {
		return fmt.Errorf("cluster %s was never up: osctl cluster start %s brings it up first", state.Name, state.Name)
	}
	nodes := make([]provision.Node, options.count)
	for i := range nodes {
		nodes[i] = options.size.node("", options.controlPlane)
	}
	if err := app.checkGrowth(state, options); err != nil {
		return err
	}
	app.warnOfSizes(nodes)

	steps := app.newSteps()
	defer steps.end()
	cluster.OnProgress(func(event provision.Event) { steps.begin(describeEvent(event)) })
	added, err := cluster.AddNodes(ctx, nodes, grown.nodes)
	if err != nil {
		return err
	}
	options.wait.only = nil
	for _, node := range added {
		options.wait.only = append(options.wait.only, node.Name)
	}
	if options.controlPlane {
		if err := app.changeContext(state.Name, func(access *client.Context) { addEndpoints(access, added) }); err != nil {
			return err
		}
	}
	if options.noWait {
		steps.done("started")
		return nil
	}
	if err := app.bringUp(ctx, cluster, access, steps, options.wait); err != nil {
		return fmt.Errorf("add nodes to cluster %s: %w", state.Name, err)
	}
	steps.done("ready")
	return nil
}

// checkGrowth refuses too many control-plane nodes, and warns of an even number.
func (app *app) checkGrowth(state provision.Status, options *addOptions) error {
	if !options.controlPlane {
		return nil
	}
	count := options.count
	for _, node := range state.Nodes {
		if node.ControlPlane {
			count++
		}
	}
	if count > maxControlPlanes {
		return usagef("--count %d: cluster %s would have %d control-plane nodes: expected at most %d", options.count, state.Name, count, maxControlPlanes)
	}
	if warning := quorumWarning(count); warning != "" {
		app.warn(warning)
	}
	return nil
}

// grownConfigs makes the configs of nodes that join a cluster that is there.
type grownConfigs struct {
	cluster machines
	patches configPatches
}

// nodes makes the config of every node of a layout that has none yet. Secrets
// and all that holds for the cluster are those of a control-plane node; what
// holds for a machine is taken from another one of the kind.
func (grown *grownConfigs) nodes(layout provision.Layout) (map[string][]byte, error) {
	var fresh []provision.NodeLayout
	var controlPlane, worker *machineconfig.Config
	for _, node := range layout.Nodes {
		config, err := grown.config(node.Name)
		switch {
		case err != nil:
			return nil, err
		case config == nil:
			fresh = append(fresh, node)
		case node.ControlPlane && controlPlane == nil:
			controlPlane = config
		case !node.ControlPlane && worker == nil:
			worker = config
		}
	}
	if controlPlane == nil {
		return nil, errors.New("no control-plane node has a config with the cluster's secrets")
	}
	shared := *controlPlane.Cluster
	shared.ControlPlane.Addresses = controlPlaneAddresses(shared.ControlPlane.Addresses, layout)
	machine := machineconfig.Default().Machine
	machine.Type, machine.Install = machineconfig.Worker, controlPlane.Machine.Install
	if worker != nil {
		machine = worker.Machine
	}
	texts := map[string][]byte{}
	for _, node := range fresh {
		role := &machineconfig.Config{Machine: machine, Cluster: &shared, Secrets: controlPlane.Secrets.ForWorker()}
		if node.ControlPlane {
			role.Machine, role.Secrets = controlPlane.Machine, controlPlane.Secrets
		}
		text, err := nodeConfig(role, node, grown.patches.all)
		if err != nil {
			return nil, err
		}
		texts[node.Name] = text
	}
	return texts, nil
}

// config is what a node was given, or nil for one that is not there yet.
func (grown *grownConfigs) config(node string) (*machineconfig.Config, error) {
	known, err := grown.cluster.Layout()
	if err != nil {
		return nil, err
	}
	if !slices.ContainsFunc(known.Nodes, func(one provision.NodeLayout) bool { return one.Name == node }) {
		return nil, nil
	}
	text, err := grown.cluster.Config(node)
	if err != nil {
		return nil, err
	}
	config, err := machineconfig.Decode("the config of node "+node, bytes.NewReader(text))
	if err != nil {
		return nil, err
	}
	return config, nil
}

// controlPlaneAddresses adds the addresses of new control-plane nodes to those
// of a config, and drops those of nodes that are gone. Names and addresses
// outside the machines' network are somebody's choice and stay.
func controlPlaneAddresses(configured []machineconfig.Host, layout provision.Layout) []machineconfig.Host {
	var current, addresses []machineconfig.Host
	for _, node := range layout.Nodes {
		if node.ControlPlane {
			current = append(current, machineconfig.Host(node.IP.String()))
		}
	}
	for _, host := range configured {
		address, isAddress := host.Addr()
		if !isAddress || !layout.Subnet.Contains(address) || slices.Contains(current, host) {
			addresses = append(addresses, host)
		}
	}
	for _, host := range current {
		if !slices.Contains(addresses, host) {
			addresses = append(addresses, host)
		}
	}
	return addresses
}
