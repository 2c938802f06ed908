package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"

	"github.com/spf13/cobra"

	"github.com/keelson-os/keelson/pkg/client"
	"github.com/keelson-os/keelson/pkg/machineconfig"
	"github.com/keelson-os/keelson/pkg/provision"
	"github.com/keelson-os/keelson/pkg/provision/qemu"
)

// createOptions are the flags of cluster create.
type createOptions struct {
	controlPlanes      int
	cpus, memory, disk int
	artifacts, accel   string
	internet           bool
	kernelArgs         []string
	rawConfig          string
	noWait             bool
	wait               waitOptions
}

func (app *app) clusterCreateCommand() *cobra.Command {
	var options createOptions
	command := &cobra.Command{
		Use: "create NAME", Short: "Create a cluster of virtual machines and bring it up",
		Long: `Create a cluster of virtual machines and bring it up: make its secrets and
configs, start the machines, bootstrap, wait until all is healthy, and add a
context to the client config. No root is needed. The machines' network has no
way out unless --internet is given.`,
		Args: cobra.ExactArgs(1),
	}
	flags := command.Flags()
	flags.IntVar(&options.controlPlanes, "control-planes", 1, "number of control-plane nodes: 1")
	flags.IntVar(&options.cpus, "cpus", provision.DefaultCPUs, "CPUs of each machine")
	flags.IntVar(&options.memory, "memory", provision.DefaultMemoryMiB, "memory of each machine, in MiB")
	flags.IntVar(&options.disk, "disk", provision.DefaultDiskMiB, "data disk of each machine, in MiB; it takes no space until it is used")
	flags.StringVar(&options.artifacts, "artifacts", "", "folder of the OS image (default: _out beside the folder of osctl, else in the current one)")
	flags.StringVar(&options.accel, "accel", string(qemu.Auto), "how to run the machines: auto, kvm, tcg (emulation)")
	flags.BoolVar(&options.internet, "internet", false, "let the machines reach the internet")
	flags.StringArrayVar(&options.kernelArgs, "kernel-arg", nil, "append to the kernel command line; may be repeated")
	flags.StringVar(&options.rawConfig, "raw-config", "", "give the machine this config as it is, right or wrong, and make no context")
	flags.BoolVar(&options.noWait, "no-wait", false, "return when the machines are started")
	options.wait.add(command)
	command.RunE = func(command *cobra.Command, args []string) error {
		if options.controlPlanes != 1 {
			return usagef("--control-planes %d: only clusters of one control-plane node can be created", options.controlPlanes)
		}
		if options.artifacts == "" {
			options.artifacts = defaultArtifacts()
		}
		return app.clusterCreate(command.Context(), args[0], &options)
	}
	return command
}

func (app *app) clusterCreate(ctx context.Context, name string, options *createOptions) error {
	accel, err := qemu.ParseAccel(options.accel)
	if err != nil {
		return usageError{err}
	}
	plan := provision.Options{
		Name:      name,
		Artifacts: options.artifacts, ExtraKernelArgs: options.kernelArgs, Internet: options.internet, Accel: accel,
		Nodes: []provision.Node{{
			Name: name + "-1", ControlPlane: true, CPUs: options.cpus, MemoryMiB: options.memory, DiskMiB: options.disk,
		}},
	}
	if _, err := provision.Plan(plan); err != nil {
		return usageError{err}
	}
	if err := clusterIsFree(name); err != nil {
		return err
	}
	steps := app.newSteps()
	defer steps.end()
	plan.Progress = func(event provision.Event) { steps.begin(describeEvent(event)) }
	if options.rawConfig != "" {
		return app.createRaw(ctx, plan, options.rawConfig, steps)
	}
	if err := app.contextIsFree(name); err != nil {
		return err
	}
	steps.begin("making secrets and configs")
	secrets, err := machineconfig.NewSecrets(name, app.now())
	if err != nil {
		return err
	}
	plan.Configure = func(layout provision.Layout) (map[string][]byte, error) { return nodeConfigs(layout, secrets) }
	cluster, err := app.createMachines(ctx, plan)
	if err != nil {
		return err
	}
	access, layout, err := app.giveAccess(cluster, name, secrets)
	if err != nil {
		// Nobody could ever ask anything of these machines.
		return errors.Join(err, cluster.Destroy(context.WithoutCancel(ctx)))
	}
	if options.noWait {
		steps.done("cluster " + name + " is started")
		return nil
	}
	if err := app.bringUp(ctx, cluster, access, steps, options.wait); err != nil {
		steps.end()
		return app.leftRunning(name, layout, err)
	}
	steps.done("cluster " + name + " is up")
	return app.printNext()
}

// giveAccess adds a context for a new cluster to the client config.
func (app *app) giveAccess(cluster machines, name string, secrets *machineconfig.Secrets) (*client.Context, provision.Layout, error) {
	layout, err := cluster.Layout()
	if err != nil {
		return nil, layout, err
	}
	access, err := clusterContext(layout, secrets, app)
	if err != nil {
		return nil, layout, err
	}
	return access, layout, app.saveContext(name, access)
}

// createRaw starts a machine with a config that may be anything, for tests of
// maintenance mode.
func (app *app) createRaw(ctx context.Context, plan provision.Options, file string, steps *steps) error {
	config, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	plan.Nodes[0].Config = config
	if _, err := app.createMachines(ctx, plan); err != nil {
		return err
	}
	steps.done("cluster " + plan.Name + " is started; its console: osctl cluster status " + plan.Name)
	return nil
}

// nodeConfigs makes the machine config of every node of a layout.
func nodeConfigs(layout provision.Layout, secrets *machineconfig.Secrets) (map[string][]byte, error) {
	plan := &clusterPlan{name: layout.Name, secrets: secrets}
	for _, node := range layout.Nodes {
		if node.ControlPlane {
			plan.controlPlanes = append(plan.controlPlanes, machineconfig.Host(node.IP.String()))
		}
	}
	controlPlane, worker := plan.configs()
	configs := map[string][]byte{}
	for _, node := range layout.Nodes {
		config := worker
		if node.ControlPlane {
			config = controlPlane
		}
		machine := *config.Machine
		machine.Hostname = node.Name
		text, err := encodeChecked(&machineconfig.Config{Machine: &machine, Cluster: config.Cluster, Secrets: config.Secrets})
		if err != nil {
			return nil, fmt.Errorf("node %s: %w", node.Name, err)
		}
		configs[node.Name] = text
	}
	return configs, nil
}

// clusterContext is the access to a cluster through this machine's forwards.
func clusterContext(layout provision.Layout, secrets *machineconfig.Secrets, app *app) (*client.Context, error) {
	var endpoints, nodes []string
	var kubernetes netip.AddrPort
	for _, node := range layout.Nodes {
		endpoints, nodes = append(endpoints, node.API.String()), append(nodes, node.Name)
		if node.ControlPlane && !kubernetes.IsValid() {
			kubernetes = node.Kubernetes
		}
	}
	access, err := adminContext(secrets, app.now(), endpoints, nodes)
	if err != nil {
		return nil, err
	}
	access.Kubernetes = "https://" + kubernetes.String()
	return access, nil
}

// clusterIsFree refuses the name of a cluster that there is, before its context
// is found to be in the way: who removes that one locks himself out.
func clusterIsFree(name string) error {
	names, err := provision.List()
	if err != nil {
		return err
	}
	if slices.Contains(names, name) {
		return fmt.Errorf("there is a cluster %s already: use it (osctl cluster status %s), start it (osctl cluster start %s), or destroy it first (osctl cluster destroy %s)", name, name, name, name)
	}
	return nil
}

// contextIsFree refuses a name under which another cluster is known already.
func (app *app) contextIsFree(name string) error {
	config, err := app.loadConfig()
	if err != nil {
		return err
	}
	if _, taken := config.Contexts[name]; taken {
		return fmt.Errorf("the client config has a context %q already: choose another name, or remove it (osctl config remove %s)", name, name)
	}
	return nil
}

// saveContext adds a context and makes it current.
func (app *app) saveContext(name string, access *client.Context) error {
	path, err := app.configPath()
	if err != nil {
		return err
	}
	return client.UpdateConfig(path, func(config *client.Config) error {
		config.Contexts[name] = access
		config.Current = name
		return nil
	})
}

// leftRunning says that the machines of a cluster that did not come up are
// still there to be looked at.
func (app *app) leftRunning(name string, layout provision.Layout, err error) error {
	var text bytes.Buffer
	fmt.Fprintf(&text, "the machines of cluster %s are left as they are; to look at them:\n", name)
	fmt.Fprintf(&text, "  osctl cluster status %s   (says where their consoles are)\n", name)
	fmt.Fprintf(&text, "  osctl services, osctl events, osctl health\n")
	fmt.Fprintf(&text, "  osctl cluster destroy %s\n", name)
	fmt.Fprint(app.stderr, text.String())
	return fmt.Errorf("bring up cluster %s: %w", name, err)
}

// printNext names the commands to try on a new cluster.
func (app *app) printNext() error {
	_, err := fmt.Fprint(app.stdout, `
next:
  osctl get nodes
  osctl services
  osctl get pods -A
  osctl image import FILE && osctl apply -f FILE
  osctl kubeconfig
`)
	return err
}

func describeEvent(event provision.Event) string {
	if event.Node == "" {
		return event.Message
	}
	return event.Node + ": " + event.Message
}
