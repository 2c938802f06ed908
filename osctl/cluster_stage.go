package main

import (
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc/status"

	"github.com/keelson-os/keelson/pkg/api/cluster"
	"github.com/keelson-os/keelson/pkg/api/etcd"
	"github.com/keelson-os/keelson/pkg/api/machine"
	"github.com/keelson-os/keelson/pkg/client"
	"github.com/keelson-os/keelson/pkg/provision"
)

// clusterLook is what one look at a cluster found out.
type clusterLook struct {
	nodes []nodeLook
	// emulated machines have no KVM. fresh: the cluster is being made.
	emulated, fresh bool
	bootstrapped    bool
	// By node name, as a control-plane node knows them; empty when none answers.
	kubernetes map[string]*cluster.Node
	members    map[string]*etcd.Member
	// The nodes run a version that does not know these lists.
	noNodes, noMembers bool
}

// of leaves only the nodes of these names, or all if there are none.
func (seen clusterLook) of(names []string) clusterLook {
	if len(names) > 0 {
		seen.nodes = slices.DeleteFunc(slices.Clone(seen.nodes), func(node nodeLook) bool { return !slices.Contains(names, node.Name) })
	}
	return seen
}

// formed tells that the nodes are a cluster: it was noted, or can be seen.
func (seen clusterLook) formed() bool {
	return seen.bootstrapped || len(seen.members) > 0 || len(seen.kubernetes) > 0
}

// nodeLook is what is known of one node.
type nodeLook struct {
	provision.NodeStatus
	nodeAnswer
	// started is set when its machine has been seen to run, and on is since when.
	started bool
	on      time.Duration
}

func (node nodeLook) answers() bool { return node.status != nil }

// maintenance tells a node that has no certificate of the cluster: it did not
// take its config, or is a worker that has not joined yet.
func (node nodeLook) maintenance() bool { return inMaintenance(node.err) }

func inMaintenance(err error) bool {
	// Its certificate is of no authority, and for no address.
	return err != nil && (strings.Contains(err.Error(), "unknown authority") || strings.Contains(err.Error(), "doesn't contain any IP SANs"))
}

// stage is how far a node is, in one word and a few more.
type stage struct {
	name, detail string
	paint        colour
	ready        bool
}

// stageOf says how far a node is on its way to being a ready node of its cluster.
func stageOf(node nodeLook, seen clusterLook) stage {
	switch {
	case node.PID == 0 && !node.started:
		return stage{name: "off", paint: faint}
	case node.PID == 0:
		return stage{name: "ended", detail: "console: " + node.Console, paint: red}
	case node.State == "paused":
		return stage{name: "paused", detail: "osctl cluster node resume " + node.Name, paint: red}
	case node.maintenance() && node.ControlPlane:
		return stage{name: "maintenance", detail: "console: " + node.Console, paint: red}
	case node.maintenance():
		return stage{name: "joining", detail: "asks the control-plane nodes for its certificates", paint: yellow}
	case !node.answers() && node.answered:
		return stage{name: "no answer", detail: reason(node.err), paint: red}
	case !node.answers():
		return stage{name: "starting", detail: reason(node.err), paint: yellow}
	case node.status.GetStage() != machine.StatusResponse_STAGE_RUNNING:
		return stage{name: stageName(node.status.GetStage()), detail: withProblems(node.status.GetPhase(), node.status), paint: yellow}
	case !seen.formed():
		return stage{name: "booted", detail: withProblems("waits for the cluster to be bootstrapped", node.status), paint: yellow}
	}
	return membershipStage(node, seen)
}

// membershipStage is that of a node that has booted.
func membershipStage(node nodeLook, seen clusterLook) stage {
	member, known := seen.members[node.Name], seen.kubernetes[node.Name]
	switch {
	case node.ControlPlane && member == nil && !seen.noMembers:
		return stage{name: "joining", detail: withProblems(firstWord(awaited(node.health), "etcd"), node.status), paint: yellow}
	case member.GetLearner():
		return stage{name: "learner", detail: firstWord(member.GetMessage(), "etcd catches up"), paint: yellow}
	case node.health == nil:
		return stage{name: "checking", paint: yellow}
	case !node.health.GetHealthy():
		return stage{name: "checking", detail: withProblems(awaited(node.health), node.status), paint: yellow}
	case known == nil && !seen.noNodes:
		return stage{name: "joining", detail: "Kubernetes does not know it yet", paint: yellow}
	case known != nil && !known.GetReady():
		return stage{name: "joining", detail: "not Ready in Kubernetes: " + known.GetMessage(), paint: yellow}
	}
	return stage{name: "ready", detail: known.GetVersion(), paint: green, ready: true}
}

// withProblems puts what a node finds wrong behind a detail.
func withProblems(detail string, answer *machine.StatusResponse) string {
	var parts []string
	for _, part := range append([]string{detail}, answer.GetProblems()...) {
		if part, _, _ = strings.Cut(strings.TrimSpace(part), "\n"); part != "" {
			parts = append(parts, part)
		}
	}
	return strings.Join(parts, "; ")
}

// reason says in a few words why a node does not answer.
func reason(err error) string {
	if err == nil {
		return ""
	}
	message := status.Convert(err).Message()
	if why, ours := client.ConnectionReason(message); ours {
		return why
	}
	return message
}

// firstWord is the first text that says anything.
func firstWord(texts ...string) string {
	for _, text := range texts {
		if text != "" {
			return text
		}
	}
	return ""
}

// unready names the nodes that are not ready and how far they are.
func unready(rows []nodeRow) string {
	var parts []string
	for _, row := range rows {
		if row.ready {
			continue
		}
		text := row.node + " is " + row.name
		if row.detail != "" {
			text += ": " + row.detail
		}
		parts = append(parts, text)
	}
	return strings.Join(parts, "\n")
}
