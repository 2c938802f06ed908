package main

import (
	"bytes"
	"fmt"
	"net/netip"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/keelson-os/keelson/pkg/machineconfig"
	"github.com/keelson-os/keelson/pkg/provision"
)

// patchFlags are the files of config patches that a command is given.
type patchFlags struct {
	all, controlPlane, worker []string
}

func (flags *patchFlags) add(command *cobra.Command) {
	command.Flags().StringArrayVar(&flags.all, "config-patch", nil,
		"FILE (or @FILE) with documents of kind Machine or Cluster that hold what differs in every node's config; may be repeated")
	command.Flags().StringArrayVar(&flags.controlPlane, "config-patch-control-plane", nil, "the same for control-plane nodes, after --config-patch")
	command.Flags().StringArrayVar(&flags.worker, "config-patch-worker", nil, "the same for workers, after --config-patch")
}

// configPatches are the contents of those files.
type configPatches struct {
	all, controlPlane, worker []machineconfig.Patch
}

func (flags *patchFlags) read() (patches configPatches, err error) {
	for _, list := range []struct {
		files []string
		into  *[]machineconfig.Patch
	}{{flags.all, &patches.all}, {flags.controlPlane, &patches.controlPlane}, {flags.worker, &patches.worker}} {
		for _, file := range list.files {
			file = strings.TrimPrefix(file, "@")
			text, err := os.ReadFile(file)
			if err != nil {
				return configPatches{}, err
			}
			*list.into = append(*list.into, machineconfig.Patch{Name: file, Text: text})
		}
	}
	return patches, nil
}

// of returns the patches for a node of one role, in the order they apply.
func (patches *configPatches) of(controlPlane bool) []machineconfig.Patch {
	own := patches.worker
	if controlPlane {
		own = patches.controlPlane
	}
	return append(append([]machineconfig.Patch(nil), patches.all...), own...)
}

// clusterConfigs makes the machine configs of a new cluster.
type clusterConfigs struct {
	secrets *machineconfig.Secrets
	// podSubnet and serviceSubnet replace the defaults if they are valid.
	podSubnet, serviceSubnet netip.Prefix
	patches                  configPatches
}

// nodes makes the config of every node of a layout.
func (configs *clusterConfigs) nodes(layout provision.Layout) (map[string][]byte, error) {
	plan := &clusterPlan{name: layout.Name, secrets: configs.secrets}
	for _, node := range layout.Nodes {
		if node.ControlPlane {
			plan.controlPlanes = append(plan.controlPlanes, machineconfig.Host(node.IP.String()))
		}
	}
	controlPlane, worker := plan.configs()
	for _, config := range []*machineconfig.Config{controlPlane, worker} {
		if configs.podSubnet.IsValid() {
			config.Cluster.Network.PodSubnet = configs.podSubnet
		}
		if configs.serviceSubnet.IsValid() {
			config.Cluster.Network.ServiceSubnet = configs.serviceSubnet
		}
	}
	texts := map[string][]byte{}
	for _, node := range layout.Nodes {
		config := worker
		if node.ControlPlane {
			config = controlPlane
		}
		text, err := nodeConfig(config, node, configs.patches.of(node.ControlPlane))
		if err != nil {
			return nil, err
		}
		texts[node.Name] = text
	}
	return texts, nil
}

// nodeConfig makes one node's config from that of its role.
func nodeConfig(role *machineconfig.Config, node provision.NodeLayout, patches []machineconfig.Patch) ([]byte, error) {
	machine := *role.Machine
	machine.Hostname = node.Name
	config, err := machineconfig.Apply(&machineconfig.Config{Machine: &machine, Cluster: role.Cluster, Secrets: role.Secrets}, patches...)
	if err != nil {
		return nil, err // says where
	}
	if config.Machine.Hostname != node.Name || (config.Machine.Type == machineconfig.ControlPlane) != node.ControlPlane {
		return nil, fmt.Errorf("node %s: a config patch must not change machine.hostname or machine.type", node.Name)
	}
	return machineconfig.Encode(config)
}

// nodePodBits is the prefix length of the network of pods that each node takes.
const nodePodBits = 24

// checkSubnets refuses what no node can know by its own config: subnets that
// overlap the machines' network, and one too small for so many nodes.
func checkSubnets(machines netip.Prefix, configs map[string][]byte) error {
	for name, text := range configs {
		config, err := machineconfig.Decode(name, bytes.NewReader(text))
		if err != nil {
			return err
		}
		network := config.Cluster.Network
		for _, subnet := range []struct {
			what   string
			prefix netip.Prefix
		}{{"pod", network.PodSubnet}, {"service", network.ServiceSubnet}} {
			if subnet.prefix.Overlaps(machines) {
				return fmt.Errorf("the %s subnet %s overlaps %s, the network of the machines: choose another one (--%s-subnet)",
					subnet.what, subnet.prefix, machines, subnet.what)
			}
		}
		if room := 1 << max(nodePodBits-network.PodSubnet.Bits(), 0); network.PodSubnet.Addr().Is4() && room < len(configs) {
			return fmt.Errorf("the pod subnet %s has room for %d nodes, which take a /%d each, not for %d: choose a larger one (--pod-subnet)",
				network.PodSubnet, room, nodePodBits, len(configs))
		}
	}
	return nil
}
