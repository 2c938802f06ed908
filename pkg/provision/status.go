package provision

import (
	"context"
	"fmt"
	"net/netip"
	"path/filepath"

	"github.com/keelson-os/keelson/pkg/provision/process"
	"github.com/keelson-os/keelson/pkg/provision/qemu"
	"github.com/keelson-os/keelson/pkg/provision/vnet"
)

// Status is a cluster as seen from the host.
type Status struct {
	Name     string       `json:"name"`
	Dir      string       `json:"dir"`
	Subnet   netip.Prefix `json:"subnet"`
	Internet bool         `json:"internet"`
	Host     qemu.Choice  `json:"host"`
	// Prepared is false if the cluster was never made completely.
	Prepared bool `json:"prepared"`
	// Bootstrapped is what SetBootstrapped noted.
	Bootstrapped bool `json:"bootstrapped"`
	// NetworkPID is 0 if the network process does not run.
	NetworkPID int              `json:"networkPID"`
	Faults     []vnet.FaultRule `json:"faults,omitempty"`
	Nodes      []NodeStatus     `json:"nodes"`
}

// NodeStatus is one node as seen from the host.
type NodeStatus struct {
	NodeLayout
	// PID is 0 if the machine does not run.
	PID int `json:"pid"`
	// State is "off", or QEMU's word: "running", "paused" and others; "unknown" if QEMU does not answer.
	State string `json:"state"`
	// Connected says that the machine is plugged into the network.
	Connected bool `json:"connected"`
	// Dropped counts frames that the machine was too slow to take.
	Dropped uint64 `json:"dropped"`
	Console string `json:"console"`
}

// Status looks at the cluster's processes. It changes nothing and takes no lock.
func (c *Cluster) Status(ctx context.Context) (Status, error) {
	forwards, err := readForwards(c.dir)
	if err != nil {
		return Status{}, fmt.Errorf("find the forwards of cluster %s: %w", c.Name(), err)
	}
	spec := c.latest()
	status := Status{
		Name: spec.Name, Dir: c.dir, Subnet: spec.Subnet, Internet: spec.Internet,
		Host: spec.Host, Prepared: spec.Prepared, Bootstrapped: spec.Bootstrapped,
		NetworkPID: runningPID(filepath.Join(c.dir, networkRef)),
	}
	ports := map[string]vnet.PortStatus{}
	if status.NetworkPID != 0 {
		// One that does not answer shows as nodes that are not connected.
		net, _ := c.control().status(ctx)
		status.Faults = net.Faults
		for _, p := range net.Ports {
			ports[p.Name] = p
		}
	}
	for i, node := range spec.layout(forwards).Nodes {
		port, connected := ports[node.Name]
		pid := runningPID(c.nodeFile(node.Name, nodeRef))
		status.Nodes = append(status.Nodes, NodeStatus{
			NodeLayout: node,
			PID:        pid,
			State:      c.nodeState(ctx, spec.Nodes[i].Number, pid),
			Connected:  connected,
			Dropped:    port.Dropped,
			Console:    c.Console(node.Name),
		})
	}
	return status, nil
}

func (c *Cluster) nodeState(ctx context.Context, number, pid int) string {
	if pid == 0 {
		return "off"
	}
	state, err := qemu.RunState(ctx, qmpSocket(c.spec.RuntimeDir, number))
	if err != nil {
		return "unknown"
	}
	return state
}

func runningPID(refFile string) int {
	var ref process.Ref
	if err := readJSON(refFile, &ref); err != nil || !ref.Alive() {
		return 0
	}
	return ref.PID
}
