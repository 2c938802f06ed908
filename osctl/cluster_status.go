package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/keelson-os/keelson/pkg/api/etcd"
	"github.com/keelson-os/keelson/pkg/provision"
)

// clusterStatus is a cluster as its machines and, as far as they answer, its
// nodes show it.
type clusterStatus struct {
	provision.Status
	Nodes []clusterNode `json:"nodes"`
}

// clusterNode is one node of it. What nobody answered is empty.
type clusterNode struct {
	provision.NodeStatus
	// Stage is "ready", or how far the node is; Detail says what it waits for.
	Stage  string `json:"stage"`
	Detail string `json:"detail,omitempty"`
	// Etcd is "leader", "member" or "learner", or "none" for a control-plane node
	// that is no member.
	Etcd    string `json:"etcd,omitempty"`
	Version string `json:"version,omitempty"`
	paint   colour
}

func (app *app) clusterStatusCommand() *cobra.Command {
	command := &cobra.Command{
		Use: "status [NAME]", Short: "Show a cluster's machines and nodes (default: the current context's)",
		Long: `Show a cluster's machines and nodes (default: the current context's): STATE is
the machine's, HEALTH and what follows are what the nodes say as far as they
answer. CONSOLE is the file with the newest output of a machine's console; at
8 MiB its content moves to the file of the same name with ".old" behind it.`,
		Args: cobra.MaximumNArgs(1), ValidArgsFunction: app.completeClusters,
	}
	output := addOutput(command, asTable, asJSON, asYAML)
	command.RunE = func(command *cobra.Command, args []string) error {
		name := ""
		if len(args) == 1 {
			name = args[0]
		}
		cluster, err := app.localCluster(name)
		if err != nil {
			return err
		}
		status, err := app.clusterStatus(command.Context(), cluster)
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

// clusterStatus looks at the machines and asks the nodes. A cluster whose access
// is lost, or whose nodes do not answer, shows as its machines alone.
func (app *app) clusterStatus(ctx context.Context, cluster machines) (clusterStatus, error) {
	state, err := cluster.Status(ctx)
	if err != nil {
		return clusterStatus{}, err
	}
	seen := clusterLook{}
	if access, err := app.clusterAccess(state.Name); err == nil {
		layout, err := cluster.Layout()
		if err != nil {
			return clusterStatus{}, err
		}
		watch, err := app.newWatch(ctx, layout, access)
		if err != nil {
			return clusterStatus{}, err
		}
		defer watch.close()
		watch.once(ctx, state)
		seen = watch.look(state)
	}
	return describeCluster(state, seen), nil
}

// describeCluster puts together what the machines and the nodes show.
func describeCluster(state provision.Status, seen clusterLook) clusterStatus {
	status := clusterStatus{Status: state}
	for i, node := range state.Nodes {
		view := clusterNode{NodeStatus: node}
		if i < len(seen.nodes) {
			stage := stageOf(seen.nodes[i], seen)
			view.Stage, view.Detail, view.paint = stage.name, stage.detail, stage.paint
			if stage.ready {
				view.Detail = ""
			}
			view.Version = seen.kubernetes[node.Name].GetVersion()
			view.Etcd = etcdRole(node.ControlPlane, seen.members[node.Name], len(seen.members) > 0)
		}
		status.Nodes = append(status.Nodes, view)
	}
	return status
}

// etcdRole is what a node is in etcd; empty for a worker, and when nobody knows.
func etcdRole(controlPlane bool, member *etcd.Member, known bool) string {
	switch {
	case member.GetLeader():
		return "leader"
	case member.GetLearner():
		return "learner"
	case member != nil:
		return "member"
	case controlPlane && known:
		return "none"
	}
	return ""
}

func (app *app) printClusterStatus(status clusterStatus) error {
	state := machineState(status.Status)
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
	nodes := newTable("NODE", "STATE", "ROLE", "HEALTH", "ETCD", "VERSION", "ADDRESS", "API", "KUBERNETES", "CONSOLE")
	problems := newTable("NODE", "DETAIL")
	for _, node := range status.Nodes {
		nodes.add(node.Name, cell{node.State, machineColour(node.State)}, roleName(node.ControlPlane), cell{orDash(node.Stage), node.paint},
			orDash(node.Etcd), orDash(node.Version), node.IP, forward(node.API.IsValid(), node.API),
			forward(node.Kubernetes.IsValid(), node.Kubernetes), node.Console)
		if node.Detail != "" {
			problems.add(node.Name, cell{node.Detail, node.paint})
		}
	}
	tables := []*table{head, nodes}
	if len(problems.rows) > 1 {
		tables = append(tables, problems)
	}
	if len(status.Faults) > 0 {
		tables = append(tables, faultTable(status.Faults))
	}
	for i, table := range tables {
		if i > 0 {
			fmt.Fprintln(app.stdout)
		}
		if err := app.print(table); err != nil {
			return err
		}
	}
	return nil
}

// forward is an address on this machine, or "-" before there is one.
func forward(valid bool, address fmt.Stringer) string {
	if !valid {
		return "-"
	}
	return address.String()
}

func orDash(text string) string {
	if text == "" {
		return "-"
	}
	return text
}
