package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/keelson-os/keelson/pkg/provision"
	"github.com/keelson-os/keelson/pkg/provision/vnet"
)

func (app *app) clusterCommand() *cobra.Command {
	return group("cluster", "Create, change, test and destroy clusters of virtual machines on this machine; update any cluster",
		app.clusterCreateCommand(), app.clusterStartCommand(), app.clusterListCommand(), app.clusterStatusCommand(),
		app.clusterDestroyCommand(), app.clusterNodeCommand(), app.clusterPartitionCommand(), app.clusterDelayCommand(),
		app.clusterDropCommand(), app.clusterHealCommand(), app.clusterUpgradeCommand(), app.clusterNetworkCommand())
}

// machines is what is needed of a provision.Cluster.
type machines interface {
	Name() string
	Layout() (provision.Layout, error)
	Status(context.Context) (provision.Status, error)
	OnProgress(func(provision.Event))
	Up(ctx context.Context, only ...string) error
	SetBootstrapped(context.Context) error
	Destroy(context.Context) error
	nodeMachines
	faultyNetwork
}

// nodeMachines are single machines that are added, removed and switched.
type nodeMachines interface {
	Config(node string) ([]byte, error)
	AddNodes(context.Context, []provision.Node, func(provision.Layout) (map[string][]byte, error)) ([]provision.NodeLayout, error)
	RemoveNode(ctx context.Context, node string) error
	PowerCut(ctx context.Context, node string) error
	EmptyDisk(node string) error
	Start(ctx context.Context, node string) error
	Pause(ctx context.Context, node string) error
	Resume(ctx context.Context, node string) error
}

// faultyNetwork is a network that does what a test needs.
type faultyNetwork interface {
	Partition(ctx context.Context, groups ...[]string) error
	SetFaults(context.Context, ...vnet.FaultRule) error
	Heal(context.Context) error
}

// createMachines is provision.Create.
func createMachines(ctx context.Context, options provision.Options) (machines, error) {
	cluster, err := provision.Create(ctx, options)
	if err != nil {
		return nil, err // a nil *Cluster in an interface would not be nil
	}
	return cluster, nil
}

// openMachines opens a cluster; the error names those there are.
func openMachines(name string) (machines, error) {
	names, err := provision.List()
	if err != nil {
		return nil, err
	}
	if slices.Contains(names, name) {
		cluster, err := provision.Open(name)
		if err != nil {
			return nil, err
		}
		return cluster, nil
	}
	if len(names) == 0 {
		return nil, fmt.Errorf("no cluster %q, nor any other: osctl cluster create makes one", name)
	}
	return nil, fmt.Errorf("no cluster %q; there are: %s", name, strings.Join(names, ", "))
}

func (app *app) completeClusters(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	names, err := provision.List()
	if err != nil || len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

// defaultArtifacts is the folder _out beside the one that osctl is in, which
// is where a source tree has it, or else in the current one.
func defaultArtifacts() string {
	const name = "_out"
	if self, err := os.Executable(); err == nil {
		beside := filepath.Join(filepath.Dir(filepath.Dir(self)), name)
		if info, err := os.Stat(beside); err == nil && info.IsDir() {
			return beside
		}
	}
	return name
}

// artifactsFor is where a source tree has the image of an architecture.
func artifactsFor(arch string) string {
	if arch == "" || arch == runtime.GOARCH {
		return defaultArtifacts()
	}
	return filepath.Join(defaultArtifacts(), arch)
}

// machineState is a cluster's state in one word.
func machineState(status provision.Status) string {
	running := 0
	for _, node := range status.Nodes {
		if node.State == "running" {
			running++
		}
	}
	switch {
	case !status.Prepared:
		return "incomplete"
	case running == 0 && status.NetworkPID == 0:
		return "off"
	case running == len(status.Nodes) && status.NetworkPID != 0:
		return "running"
	}
	return "degraded"
}

func machineColour(state string) colour {
	switch state {
	case "running":
		return green
	case "off":
		return faint
	}
	return red
}
