package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/keelson-os/keelson/pkg/machineconfig"
	"github.com/keelson-os/keelson/pkg/provision"
	"github.com/keelson-os/keelson/pkg/provision/qemu"
)

// createOptions are the flags of cluster create.
type createOptions struct {
	sizes                    sizeFlags
	podSubnet, serviceSubnet string
	patches                  patchFlags
	artifacts, arch, accel   string
	internet                 bool
	boot, secureBoot         string
	kernelArgs               []string
	rawConfig                string
	noWait                   bool
	wait                     waitOptions
}

func (app *app) clusterCreateCommand() *cobra.Command {
	var options createOptions
	command := &cobra.Command{
		Use: "create NAME", Short: "Create a cluster of virtual machines and bring it up",
		Long: `Create a cluster of virtual machines and bring it up: make its secrets and
configs, start the machines, bootstrap, wait until all is healthy, and add a
context to the client config. No root is needed. The nodes are NAME-1, NAME-2
and so on, control-plane nodes first. The machines' network has no way out
unless --internet is given.`,
		Args: cobra.ExactArgs(1),
	}
	options.sizes.add(command)
	flags := command.Flags()
	flags.StringVar(&options.podSubnet, "pod-subnet", "", "network that pods get their addresses from (default 10.244.0.0/16)")
	flags.StringVar(&options.serviceSubnet, "service-subnet", "", "network that services get their addresses from (default 10.96.0.0/16)")
	options.patches.add(command)
	flags.StringVar(&options.artifacts, "artifacts", "", "folder of the OS image (default: _out beside the folder of osctl, else in the current one; in it the folder ARCH for another architecture than this computer's)")
	flags.StringVar(&options.arch, "arch", "", "architecture of the machines and of the OS image: amd64 or arm64; another one than this computer's is emulated (default: this computer's)")
	flags.StringVar(&options.accel, "accel", string(qemu.Auto), "how to run the machines: auto, kvm, tcg (emulation)")
	flags.BoolVar(&options.internet, "internet", false, "let the machines reach the internet")
	flags.StringVar(&options.boot, "boot", string(provision.BootDirect), "what the machines boot from: direct (QEMU starts the kernel), disk (the disk image, with UEFI), iso (an empty disk and the ISO image, with UEFI), pxe, http or ipxe (an empty disk and a boot server on the network, with UEFI)")
	flags.StringVar(&options.secureBoot, "secure-boot", "", "UEFI Secure Boot, with a file of the firmware's variables that has your keys, such as OVMF_VARS_4M.snakeoil.fd of Debian's package ovmf")
	flags.StringArrayVar(&options.kernelArgs, "kernel-arg", nil, "append to the kernel command line; may be repeated")
	flags.StringVar(&options.rawConfig, "raw-config", "", "give the machines this config as it is, right or wrong, and make no context")
	flags.BoolVar(&options.noWait, "no-wait", false, "return when the machines are started")
	options.wait.add(command)
	command.RunE = func(command *cobra.Command, args []string) error {
		if options.artifacts == "" {
			options.artifacts = artifactsFor(options.arch)
		}
		return app.clusterCreate(command.Context(), args[0], &options)
	}
	return command
}

// plan checks the flags and says what machines to make.
func (options *createOptions) plan(name string) (provision.Options, error) {
	accel, err := qemu.ParseAccel(options.accel)
	if err != nil {
		return provision.Options{}, usageError{err}
	}
	plan := provision.Options{
		Name:      name,
		Artifacts: options.artifacts, Arch: options.arch, Boot: provision.Boot(options.boot), SecureBoot: options.secureBoot, ExtraKernelArgs: options.kernelArgs, Internet: options.internet, Accel: accel,
	}
	if plan.Nodes, err = options.sizes.nodes(name); err != nil {
		return provision.Options{}, usageError{err}
	}
	if _, err := provision.Plan(plan); err != nil {
		return provision.Options{}, usageError{err}
	}
	return plan, nil
}

// configs makes the secrets and tries out the configs, so that a wrong one is
// told of before anything is made.
func (options *createOptions) configs(plan provision.Options, now time.Time) (*clusterConfigs, error) {
	configs := &clusterConfigs{}
	for _, subnet := range []struct {
		flag, text string
		into       *netip.Prefix
	}{{"--pod-subnet", options.podSubnet, &configs.podSubnet}, {"--service-subnet", options.serviceSubnet, &configs.serviceSubnet}} {
		if subnet.text == "" {
			continue
		}
		prefix, err := netip.ParsePrefix(subnet.text)
		if err != nil {
			return nil, usagef("%s %q: expected a network such as 10.244.0.0/16", subnet.flag, subnet.text)
		}
		*subnet.into = prefix
	}
	var err error
	if configs.patches, err = options.patches.read(); err != nil {
		return nil, err
	}
	if configs.secrets, err = machineconfig.NewSecrets(plan.Name, now); err != nil {
		return nil, err
	}
	layout, err := provision.Plan(plan)
	if err != nil {
		return nil, err
	}
	texts, err := configs.nodes(layout)
	if err != nil {
		return nil, err
	}
	return configs, checkSubnets(layout.Subnet, texts)
}

func (app *app) clusterCreate(ctx context.Context, name string, options *createOptions) error {
	plan, err := options.plan(name)
	if err != nil {
		return err
	}
	if err := clusterIsFree(name); err != nil {
		return err
	}
	if options.rawConfig == "" {
		if err := app.contextIsFree(name); err != nil {
			return err
		}
	}
	if warning := quorumWarning(options.sizes.controlPlanes); warning != "" {
		app.warn(warning)
	}
	app.warnOfSizes(plan.Nodes)

	steps := app.newSteps()
	defer steps.end()
	plan.Progress = func(event provision.Event) { steps.begin(describeEvent(event)) }
	if options.rawConfig != "" {
		return app.createRaw(ctx, plan, options.rawConfig, steps)
	}
	steps.begin("making secrets and configs")
	configs, err := options.configs(plan, app.now())
	if err != nil {
		return err
	}
	plan.Configure = configs.nodes
	if !options.noWait {
		plan.Start = []string{plan.Nodes[0].Name} // bringUp starts the others in their time
	}
	cluster, err := app.createMachines(ctx, plan)
	if err != nil {
		return err
	}
	access, layout, err := app.giveAccess(cluster, name, configs.secrets)
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

// createRaw starts machines with a config that may be anything, for tests of
// maintenance mode.
func (app *app) createRaw(ctx context.Context, plan provision.Options, file string, steps *steps) error {
	config, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	for i := range plan.Nodes {
		plan.Nodes[i].Config = config
	}
	if _, err := app.createMachines(ctx, plan); err != nil {
		return err
	}
	steps.done("cluster " + plan.Name + " is started; its consoles: osctl cluster status " + plan.Name)
	return nil
}

// leftRunning says that the machines of a cluster that did not come up are
// still there to be looked at.
func (app *app) leftRunning(name string, layout provision.Layout, err error) error {
	var text bytes.Buffer
	fmt.Fprintf(&text, "the machines of cluster %s are left as they are; to look at them:\n", name)
	fmt.Fprintf(&text, "  osctl cluster status %s   (says where their consoles are)\n", name)
	fmt.Fprintf(&text, "  osctl services, osctl node-events, osctl health\n")
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
