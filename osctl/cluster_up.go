package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/keelson-os/keelson/pkg/api/cluster"
	"github.com/keelson-os/keelson/pkg/client"
	"github.com/keelson-os/keelson/pkg/provision"
)

// waitOptions bound how long a cluster may take to come up.
type waitOptions struct {
	timeout time.Duration
	// only names the nodes that are waited for; nil means all.
	only []string
}

func (options *waitOptions) add(command *cobra.Command) {
	command.Flags().DurationVar(&options.timeout, "timeout", 15*time.Minute, "how long the cluster may take to come up; emulated machines take minutes")
}

// bringUp switches on the nodes of a cluster that are off, bootstraps it unless
// that was done, and waits until every node is ready; or some nodes only.
func (app *app) bringUp(ctx context.Context, machines machines, access *client.Context, steps *steps, options waitOptions) error {
	ctx, cancel := context.WithTimeoutCause(ctx, options.timeout, fmt.Errorf("not up within %s", options.timeout))
	defer cancel()
	layout, err := machines.Layout()
	if err != nil {
		return err
	}
	watch, err := app.newWatch(ctx, layout, access)
	if err != nil {
		return err
	}
	defer watch.close()
	watch.begin(ctx)
	tick := time.NewTicker(app.pollInterval)
	defer tick.Stop()
	var next decision
	for fresh, first := false, true; ; first = false {
		state, err := machines.Status(ctx)
		if err != nil {
			return err
		}
		fresh = fresh || first && !state.Bootstrapped
		seen := watch.look(state)
		seen.fresh = fresh
		next = decide(seen.of(options.only))
		steps.show(next.rows)
		if next.err == nil {
			next.err = app.act(ctx, machines, watch, steps, next)
		}
		if next.err != nil || next.done {
			return next.err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("%w\n%s", context.Cause(ctx), unready(next.rows))
		}
	}
}

// act does what was decided: it switches on nodes, or bootstraps the cluster.
func (app *app) act(ctx context.Context, machines machines, watch *watch, steps *steps, next decision) error {
	if len(next.start) > 0 {
		watch.learn(func() {
			for _, name := range next.start {
				watch.noteStart(name)
			}
		})
		return machines.Up(ctx, next.start...)
	}
	steps.begin(next.step)
	if next.note {
		return machines.SetBootstrapped(ctx)
	}
	if next.bootstrap == "" {
		return nil
	}
	switch err := bootstrapOnce(ctx, watch.client(next.bootstrap)); {
	case permanent(err):
		return fmt.Errorf("bootstrap node %s: %w", next.bootstrap, err)
	case err != nil:
		steps.detail(reason(err))
		return nil // again at the next look
	}
	return machines.SetBootstrapped(ctx)
}

// bootstrapOnce bootstraps a cluster; that it was done before is no error.
func bootstrapOnce(ctx context.Context, node *client.Client) error {
	ctx, cancel := context.WithTimeout(ctx, pollCallTimeout)
	defer cancel()
	_, err := node.Cluster.Bootstrap(ctx, &cluster.BootstrapRequest{})
	if status.Code(err) == codes.FailedPrecondition {
		return nil
	}
	return err
}

// decision is what follows from one look at a cluster that comes up.
type decision struct {
	rows []nodeRow
	// step says what is waited for.
	step string
	// start names nodes to switch on.
	start []string
	// bootstrap names the node to make the first of the cluster; note says that
	// there is one, which is not known yet.
	bootstrap string
	note      bool
	done      bool
	// err is what waiting cannot mend.
	err error
}

// decide says what to do next.
func decide(seen clusterLook) decision {
	next := decision{done: true, start: nextStarts(seen), step: "waiting until everything is healthy"}
	for _, node := range seen.nodes {
		stage := stageOf(node, seen)
		next.rows = append(next.rows, nodeRow{node.Name, roleName(node.ControlPlane), stage})
		next.done = next.done && stage.ready
		if err := hopeless(node, seen); err != nil && next.err == nil {
			next.err = err
		}
	}
	if seen.formed() {
		// Somebody else may have bootstrapped it, perhaps of a snapshot.
		next.note = !seen.bootstrapped
		return next
	}
	next.done = false
	for _, node := range seen.nodes {
		if !node.ControlPlane {
			continue
		}
		next.step = "waiting for the API of " + node.Name
		if node.answers() {
			next.step, next.bootstrap = "bootstrapping", node.Name
		}
		break // the first one, always: two would be two clusters
	}
	return next
}

// How long an emulated machine is given before the next one is switched on
// although it is not as far as it should be.
const (
	patience      = 2 * time.Minute
	freshPatience = 8 * time.Minute
)

// nextStarts names the nodes to switch on now. With KVM all start at once.
// Emulated machines slow each other down while they boot. In a cluster that is
// being made each starts when the one before it is ready: three API servers that
// fill an empty store together, through three members on two cores, took five
// times as long. In one that was made before, the first nodes need the others
// for their quorum: each starts when the one before it has its API up.
func nextStarts(seen clusterLook) []string {
	waits := func(node nodeLook) bool {
		if seen.fresh {
			return !stageOf(node, seen).ready && node.on < freshPatience
		}
		return !node.answered && node.on < patience
	}
	var off []string
	for _, node := range seen.nodes {
		if node.PID == 0 && !node.started {
			off = append(off, node.Name)
			if seen.emulated {
				break
			}
		} else if seen.emulated && node.PID != 0 && waits(node) {
			return nil
		}
	}
	return off
}

// hopeless says of a node why it will not come up by itself.
func hopeless(node nodeLook, seen clusterLook) error {
	switch {
	case node.PID == 0 && node.started:
		return fmt.Errorf("the machine of node %s has ended: see its console %s and the log beside it", node.Name, node.Console)
	case node.maintenance() && node.ControlPlane:
		return fmt.Errorf("node %s did not take its config and is in maintenance mode: its console %s says why", node.Name, node.Console)
	}
	return nil
}

func roleName(controlPlane bool) string {
	if controlPlane {
		return "control-plane"
	}
	return "worker"
}

var _ machines = (*provision.Cluster)(nil)
