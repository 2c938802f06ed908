package main

import (
	"fmt"
	"runtime"

	"github.com/spf13/cobra"

	"github.com/keelson-os/keelson/pkg/provision"
)

// maxControlPlanes is where more members only make etcd slower: every write
// waits for most of them.
const maxControlPlanes = 7

// machineOverheadMiB is what QEMU takes beside a machine's own memory.
const machineOverheadMiB = 100

// sizeFlags say how many machines to make and how large.
type sizeFlags struct {
	controlPlanes, workers int
	machine, worker        machineSize
}

// machineSize is the size of a machine; zeros mean another one's, or the default.
type machineSize struct{ cpus, memory, disk int }

func (flags *sizeFlags) add(command *cobra.Command) {
	set := command.Flags()
	set.IntVar(&flags.controlPlanes, "control-planes", 1, "number of control-plane nodes: 1 to 7, better an odd number")
	set.IntVar(&flags.workers, "workers", 0, "number of workers")
	flags.machine.add(command)
	set.IntVar(&flags.worker.cpus, "worker-cpus", 0, "CPUs of each worker (default: as --cpus)")
	set.IntVar(&flags.worker.memory, "worker-memory", 0, "memory of each worker, in MiB (default: as --memory)")
	set.IntVar(&flags.worker.disk, "worker-disk", 0, "data disk of each worker, in MiB (default: as --disk)")
}

func (size *machineSize) add(command *cobra.Command) {
	set := command.Flags()
	set.IntVar(&size.cpus, "cpus", 0, "CPUs of each machine (default 2; 1 for several emulated ones that have no CPU each)")
	set.IntVar(&size.memory, "memory", provision.DefaultMemoryMiB, "memory of each machine, in MiB")
	set.IntVar(&size.disk, "disk", provision.DefaultDiskMiB, "data disk of each machine, in MiB; it takes no space until it is used")
}

// or replaces zeros by another size's values.
func (size machineSize) or(other machineSize) machineSize {
	for _, value := range []struct{ own, other *int }{
		{&size.cpus, &other.cpus}, {&size.memory, &other.memory}, {&size.disk, &other.disk},
	} {
		if *value.own == 0 {
			*value.own = *value.other
		}
	}
	return size
}

// node is a machine of this size.
func (size machineSize) node(name string, controlPlane bool) provision.Node {
	return provision.Node{Name: name, ControlPlane: controlPlane, CPUs: size.cpus, MemoryMiB: size.memory, DiskMiB: size.disk}
}

// nodes plans the machines of a cluster, control-plane nodes first.
func (flags *sizeFlags) nodes(cluster string) ([]provision.Node, error) {
	if flags.controlPlanes < 1 || flags.controlPlanes > maxControlPlanes {
		return nil, fmt.Errorf("--control-planes %d: expected 1 to %d: 3 survive the failure of one node, 5 of two; more make every write slower",
			flags.controlPlanes, maxControlPlanes)
	}
	if flags.workers < 0 {
		return nil, fmt.Errorf("--workers %d: expected 0 or more", flags.workers)
	}
	var nodes []provision.Node
	for i := range flags.controlPlanes + flags.workers {
		size, controlPlane := flags.machine, i < flags.controlPlanes
		if !controlPlane {
			size = flags.worker.or(flags.machine)
		}
		nodes = append(nodes, size.node(fmt.Sprintf("%s-%d", cluster, i+1), controlPlane))
	}
	return nodes, nil
}

// quorumWarning says what an even number of control-plane nodes is worth;
// nothing of an odd one.
func quorumWarning(controlPlanes int) string {
	if controlPlanes%2 == 1 || controlPlanes == 0 {
		return ""
	}
	survives := fmt.Sprintf("the failure of %d only, as %d do", (controlPlanes-1)/2, controlPlanes-1)
	if controlPlanes == 2 {
		survives = "no failure"
	}
	return fmt.Sprintf("%d control-plane nodes survive %s: use %d or %d", controlPlanes, survives, controlPlanes-1, controlPlanes+1)
}

// sizeWarnings says where machines want more than the host has free.
func sizeWarnings(nodes []provision.Node, freeMiB, hostCPUs int) []string {
	var warnings []string
	memory, cpus := 0, 0
	for _, node := range nodes {
		memory += node.MemoryMiB + machineOverheadMiB
		cpus += max(node.CPUs, 1)
	}
	if freeMiB > 0 && memory > freeMiB {
		warnings = append(warnings, fmt.Sprintf("the machines want up to %d MiB of memory and this machine has %d MiB free: if they use it all, some will be killed (--memory, --worker-memory)",
			memory, freeMiB))
	}
	if cpus > 4*hostCPUs {
		warnings = append(warnings, fmt.Sprintf("the machines have %d CPUs and this machine has %d: they will be slow; --cpus 1 wastes least", cpus, hostCPUs))
	}
	return warnings
}

// warn tells of what works but is probably not meant.
func (app *app) warn(text string) {
	fmt.Fprintln(app.stderr, app.paint(yellow, "warning:"), text)
}

// warnOfSizes warns of machines that are too many for the host.
func (app *app) warnOfSizes(nodes []provision.Node) {
	free, err := provision.HostMemoryMiB()
	if err != nil {
		free = 0 // a host that does not tell is not warned of
	}
	for _, warning := range sizeWarnings(nodes, free, runtime.NumCPU()) {
		app.warn(warning)
	}
}
