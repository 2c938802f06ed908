package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/keelson-os/keelson/pkg/api/cluster"
	"github.com/keelson-os/keelson/pkg/api/etcd"
	"github.com/keelson-os/keelson/pkg/api/machine"
	"github.com/keelson-os/keelson/pkg/api/upgrade"
	"github.com/keelson-os/keelson/pkg/osbundle"
)

// clusterUpgradeOptions are the flags of cluster upgrade.
type clusterUpgradeOptions struct {
	upgradeOptions
	dryRun  bool
	workers int
}

// drainWait is how long pods may take to move elsewhere, those that are slow to end
// and those whose budgets wait for others to be ready included.
const drainWait = 30 * time.Minute

func (app *app) clusterUpgradeCommand() *cobra.Command {
	options := &clusterUpgradeOptions{}
	command := &cobra.Command{
		Use: "upgrade --image FILE", Short: "Update every node of the cluster, one after the other", Args: cobra.NoArgs,
		Long: `Update every node of the current context's cluster: the control-plane nodes one
after the other, then the workers, so many at a time (workers first with an older
version). It begins only if every node takes the image, and their versions work
together on the way. Before each step all nodes must be healthy and off probation, and
etcd without alarms and with a quorum; each must be found healthy with its new image
before the next. At the first that is not, it stops: the others keep what they have.
So it does at a node whose pods cannot be moved away in time, because their
PodDisruptionBudgets do not allow it: that node stays what it is, too. Started again
it goes on with what is left.`,
		Example: `  osctl cluster upgrade --image _out/keelson.bundle --dry-run
  osctl cluster upgrade --image _out/keelson.bundle --workers 3`,
	}
	flags := command.Flags()
	flags.StringVar(&options.image, "image", "", "the OS bundle: a file, which is read once for each node")
	flags.BoolVar(&options.dryRun, "dry-run", false, "only say what would be done, and what is in its way")
	flags.IntVar(&options.workers, "workers", 1, "how many workers are updated at a time")
	flags.BoolVar(&options.downgrade, "downgrade", false, "take an older version, too, which may not read what the newer one wrote")
	flags.DurationVar(&options.drainTimeout, "drain-timeout", drainWait, "how long a node's pods may take to move to other nodes before the update stops there")
	flags.DurationVar(&options.timeout, "timeout", upgradeWait, "how long to wait for each node")
	_ = command.MarkFlagRequired("image") // it is there
	command.RunE = func(command *cobra.Command, _ []string) error {
		if options.workers < 1 {
			return usagef("--workers %d: at least one", options.workers)
		}
		if options.drainTimeout <= 0 {
			return usagef("--drain-timeout %s: more than that", options.drainTimeout)
		}
		if options.image == "-" {
			return usagef("--image: a file, which is read once for each node")
		}
		return app.clusterUpgrade(command.Context(), options)
	}
	return command
}

func (app *app) clusterUpgrade(ctx context.Context, options *clusterUpgradeOptions) error {
	bundle, _, err := app.openBundle(ctx, options.image)
	if err != nil {
		return err
	}
	target, err := osbundle.Peek(bundle)
	bundle.Close()
	if err != nil {
		return err
	}
	app.nodes = []string{everyNode}
	nodes, err := app.fanOut(ctx)
	if err != nil {
		return err
	}
	have, err := app.clusterImages(ctx, nodes)
	if err != nil {
		return err
	}
	batches := planUpgrade(have, target, options.workers)
	if err := app.printPlan(have, batches, target); err != nil {
		return err
	}
	if err := checkPlan(have, batches, target, options.downgrade); err != nil {
		return err
	}
	if options.dryRun {
		if len(batches) == 0 {
			return nil
		}
		if err := app.readyForUpgrade(ctx, nodes, have, batches[0]); err != nil {
			return fmt.Errorf("the update would not begin: %w", err)
		}
		return nil
	}
	for i, batch := range batches {
		if err := app.readyForUpgrade(ctx, nodes, have, batch); err != nil {
			return fmt.Errorf("%w; not updated: %s", err, strings.Join(slices.Concat(batches[i:]...), ", "))
		}
		if err := app.upgradeBatch(ctx, nodes, batch, options); err != nil {
			rest := slices.Concat(batches[i+1:]...)
			if len(rest) == 0 {
				return err
			}
			return fmt.Errorf("%w; stopped there, not updated yet: %s", err, strings.Join(rest, ", "))
		}
	}
	_, err = fmt.Fprintf(app.stdout, "every node that has slots runs %s\n", target.Name())
	return err
}

// nodeImage is what a node runs.
type nodeImage struct {
	name         string
	controlPlane bool
	image        string
	version      string // "v1.37.1"
	architecture string
	rootHash     string
	slots        bool // it was installed
}

// clusterImages asks every node what it runs.
func (app *app) clusterImages(ctx context.Context, nodes *fanout) ([]nodeImage, error) {
	listed, err := nodes.nodes[0].Cluster.Nodes(ctx, &cluster.NodesRequest{})
	if err != nil {
		return nil, err
	}
	controlPlane := map[string]bool{}
	for _, node := range listed.GetNodes() {
		controlPlane[node.GetName()] = node.GetControlPlane()
	}
	var all []nodeImage
	for _, node := range nodes.nodes {
		asking, cancel := context.WithTimeout(ctx, answerTimeout)
		answer, err := node.Machine.Version(asking, &machine.VersionRequest{})
		if err == nil {
			_, err = node.Upgrade.Slots(asking, &upgrade.SlotsRequest{})
			hasSlots := status.Code(err) != codes.FailedPrecondition
			if !hasSlots {
				err = nil
			}
			all = append(all, nodeImage{
				name: node.name, controlPlane: controlPlane[node.name], slots: hasSlots,
				image: imageName(answer), version: answer.GetVersion(), architecture: answer.GetArchitecture(), rootHash: answer.GetRootHash(),
			})
		}
		cancel()
		if err != nil {
			return nil, fmt.Errorf("%s does not answer: %w; a cluster is updated only when all of it works", node.name, err)
		}
	}
	return all, nil
}

// planUpgrade says which nodes are updated, and which of them at a time. The workers
// are last, since no kubelet may be newer than an API server, and so are first on the
// way to an older version.
func planUpgrade(nodes []nodeImage, target osbundle.Manifest, workers int) (batches [][]string) {
	var controlPlane, rest [][]string
	var names []string
	older := false
	for _, node := range nodes {
		switch {
		case node.rootHash == target.RootHash || !node.slots:
		case node.controlPlane:
			controlPlane = append(controlPlane, []string{node.name})
			older = older || osbundle.MinorsAhead(node.version, target.Version) < 0
		default:
			names = append(names, node.name)
		}
	}
	for batch := range slices.Chunk(names, workers) {
		rest = append(rest, batch)
	}
	if older {
		return append(rest, controlPlane...)
	}
	return append(controlPlane, rest...)
}

// maxKubeletSkew is how many minor versions kubelet may be behind the API server
// (Kubernetes' version skew policy). It may never be ahead.
const maxKubeletSkew = 3

// checkPlan refuses what would end half way: a node that does not take the image, or
// Kubernetes versions that do not work together once all that is planned is done.
func checkPlan(nodes []nodeImage, batches [][]string, target osbundle.Manifest, downgrade bool) error {
	planned := slices.Concat(batches...)
	var wrong []error
	workersMove := slices.ContainsFunc(nodes, func(node nodeImage) bool { return !node.controlPlane && slices.Contains(planned, node.name) })
	controlPlaneMoves := slices.ContainsFunc(nodes, func(node nodeImage) bool { return node.controlPlane && slices.Contains(planned, node.name) })
	for _, node := range nodes {
		switch ahead := osbundle.MinorsAhead(node.version, target.Version); {
		case slices.Contains(planned, node.name):
			if err := target.CheckFor(node.version, node.architecture, downgrade); err != nil {
				wrong = append(wrong, fmt.Errorf("%s: %w", node.name, err))
			}
		case node.controlPlane && workersMove && ahead > 0:
			wrong = append(wrong, fmt.Errorf("%s stays with %s: the workers' kubelets would be newer than its API server; give it the new image first", node.name, node.version))
		case !node.controlPlane && controlPlaneMoves && ahead < 0:
			wrong = append(wrong, fmt.Errorf("%s stays with %s: its kubelet would be newer than the API servers", node.name, node.version))
		case !node.controlPlane && controlPlaneMoves && ahead > maxKubeletSkew:
			wrong = append(wrong, fmt.Errorf("%s stays with %s: its kubelet would be more than %d minor versions behind the API servers", node.name, node.version, maxKubeletSkew))
		}
	}
	return errors.Join(wrong...)
}

func (app *app) printPlan(nodes []nodeImage, batches [][]string, target osbundle.Manifest) error {
	table := newTable("NODE", "ROLE", "RUNS", "STEP")
	for _, node := range nodes {
		role, step := "worker", "stays"
		if node.controlPlane {
			role = "control plane"
		}
		if !node.slots {
			step = "stays: it was given its image, and has no slots"
		}
		for i, batch := range batches {
			if slices.Contains(batch, node.name) {
				step = fmt.Sprintf("%d of %d: %s", i+1, len(batches), target.Name())
			}
		}
		table.add(node.name, role, node.image, step)
	}
	return app.print(table)
}

// readyForUpgrade tells whether the cluster can do without some nodes for a while.
func (app *app) readyForUpgrade(ctx context.Context, nodes *fanout, have []nodeImage, batch []string) error {
	for i, node := range nodes.nodes {
		if err := readyNode(ctx, node, have[i].slots); err != nil {
			return err
		}
	}
	asking, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	member := slices.IndexFunc(have, func(node nodeImage) bool { return node.controlPlane })
	if member < 0 {
		return errors.New("the cluster names no control-plane node")
	}
	alarms, err := nodes.nodes[member].Etcd.Alarms(asking, &etcd.AlarmsRequest{})
	if err != nil {
		return fmt.Errorf("ask for etcd's alarms: %w", err)
	}
	if list := alarms.GetAlarms(); len(list) > 0 {
		return fmt.Errorf("etcd has an alarm: %s of %s; see osctl etcd alarms", list[0].GetAlarm(), list[0].GetMember())
	}
	members, err := nodes.nodes[member].Etcd.Members(asking, &etcd.MembersRequest{})
	if err != nil {
		return fmt.Errorf("ask for etcd's members: %w", err)
	}
	return quorumWithout(members.GetMembers(), batch)
}

// readyNode tells whether a node is healthy, and stays what it is.
func readyNode(ctx context.Context, node *askedNode, slots bool) error {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	answer, err := node.Cluster.Health(ctx, &cluster.HealthRequest{})
	if err != nil {
		return fmt.Errorf("%s does not answer: %w", node.name, err)
	}
	if !answer.GetHealthy() {
		return fmt.Errorf("%s is not healthy: %s", node.name, firstFailed(answer))
	}
	if !slots {
		return nil
	}
	own, err := node.Upgrade.Slots(ctx, &upgrade.SlotsRequest{})
	if err != nil {
		return fmt.Errorf("%s does not tell of its slots: %w", node.name, err)
	}
	if own.GetProbation() {
		return fmt.Errorf("%s has its image on probation: wait until osctl version says that it is good", node.name)
	}
	return nil
}

// quorumWithout tells whether etcd answers while some nodes are away. One or two
// members never do without one, and are updated all the same: there is no other way.
func quorumWithout(members []*etcd.Member, away []string) error {
	voters, left := 0, 0
	for _, member := range members {
		if member.GetLearner() {
			continue
		}
		voters++
		if member.GetReachable() && !slices.Contains(away, member.GetName()) {
			left++
		}
	}
	if needed := voters/2 + 1; voters > 2 && left < needed {
		return fmt.Errorf("without %s only %d of etcd's %d members would answer, and %d must: see osctl etcd members", strings.Join(away, ", "), left, voters, needed)
	}
	return nil
}

// upgradeBatch updates some nodes at once and waits for all of them.
func (app *app) upgradeBatch(ctx context.Context, nodes *fanout, batch []string, options *clusterUpgradeOptions) error {
	each := options.upgradeOptions
	each.wait = true
	var mu sync.Mutex
	var failed []error
	var done sync.WaitGroup
	for _, node := range nodes.nodes {
		if !slices.Contains(batch, node.name) {
			continue
		}
		done.Go(func() {
			if err := app.upgradeInTurn(ctx, node, each); err != nil {
				mu.Lock()
				defer mu.Unlock()
				failed = append(failed, fmt.Errorf("%s: %w", node.name, err))
			}
		})
	}
	done.Wait()
	return errors.Join(failed...)
}

// upgradeInTurn updates one node and waits until the cluster has it back.
func (app *app) upgradeInTurn(ctx context.Context, node *askedNode, options upgradeOptions) error {
	if err := app.upgrade(ctx, node, &options); err != nil {
		return err
	}
	return app.waitNodeHealthy(ctx, node, min(options.timeout, 10*time.Minute))
}
