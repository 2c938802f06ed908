package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/keelson-os/keelson/pkg/api/machine"
	"github.com/keelson-os/keelson/pkg/client"
	"github.com/keelson-os/keelson/pkg/osdisk"
)

// joinTime is how long a node that was reset, and has its config from elsewhere,
// may take to be known in a cluster again before it is taken for one without.
const joinTime = 2 * time.Minute

// overwriteTimeout is what a node gives itself to overwrite its disk.
const overwriteTimeout = 24 * time.Hour

func (app *app) resetCommand() *cobra.Command {
	command := &cobra.Command{
		Use: "reset", Short: "Take the node out of its cluster, erase its data, and restart it", Args: cobra.NoArgs,
		Long: `Take the node out of its cluster, erase its data, and restart it: it then joins as
a new machine. Its pods move to other nodes first, and a control-plane node leaves
etcd, which is refused when the others could not go on without it. An installed
node keeps its OS image, and waits for a config in maintenance mode.`,
	}
	flags := command.Flags()
	force := flags.Bool("force", false, "do not move or wait for pods, and leave etcd whatever becomes of it")
	labels := flags.StringSlice("system-labels", nil, "wipe only these partitions: STATE (config and identity), EPHEMERAL (all else); a node whose EPHEMERAL stays does not leave its cluster")
	overwrite := flags.Bool("overwrite", false, "write zeros over all that is wiped: hours on a large disk. Without it EPHEMERAL is discarded, which not every disk can, and stays but for its beginning and end on one that cannot")
	yes := flags.BoolP("yes", "y", false, "do not ask whether that is meant")
	wait := flags.Bool("wait", false, "wait until the node has started again, and show what it does")
	timeout := flags.Duration("timeout", wayDownTimeout, "how long to wait")
	command.RunE = func(command *cobra.Command, _ []string) error {
		if *overwrite && !flags.Changed("timeout") {
			*timeout += overwriteTimeout
		}
		nodes, err := app.fanOutNamed(command.Context())
		if err != nil {
			return err
		}
		if len(nodes.nodes) > 1 {
			return usagef("-N: nodes are reset one at a time, so that the others can take over what each does")
		}
		node := nodes.nodes[0].Client
		if !*yes {
			version, err := node.Machine.Version(command.Context(), &machine.VersionRequest{})
			if err != nil {
				return fmt.Errorf("reset: %w", err)
			}
			if err := app.confirm(resetQuestion(*labels), version.GetHostname()); err != nil {
				return err
			}
		}
		asked := app.now()
		watch := app.watchWayDown(command.Context(), node)
		defer watch.end()
		if _, err := node.Machine.Reset(command.Context(), &machine.ResetRequest{Force: *force, SystemLabels: *labels, Overwrite: *overwrite}); err != nil {
			return fmt.Errorf("reset: %w", err)
		}
		if !*wait {
			_, err := fmt.Fprintln(app.stdout, "resetting")
			return err
		}
		fmt.Fprintln(app.stderr, "resetting; waiting until the node has started again")
		return app.waitReset(command.Context(), node, watch, asked, *timeout)
	}
	return command
}

// resetQuestion asks whether a reset is meant, of a node to be named in it.
func resetQuestion(labels []string) string {
	switch {
	case len(labels) == 0:
		return "Take %s out of its cluster and erase all that it keeps?"
	case slices.Contains(labels, osdisk.Ephemeral.Name):
		return "Take %s out of its cluster and erase " + strings.Join(labels, " and ") + "?"
	}
	return "Restart %s and erase " + strings.Join(labels, " and ") + ", so that it waits for a config?"
}

// waitReset waits until the node is up again and tells whether it forgot what it
// kept: a node without which etcd would stop restarts as it was.
func (app *app) waitReset(ctx context.Context, node *client.Client, watch *wayDown, asked time.Time, timeout time.Duration) error {
	waiting, cancel := context.WithTimeoutCause(ctx, timeout, fmt.Errorf("the node has not started again within %s: see its console", timeout))
	defer cancel()
	var maintenance time.Time // since when
	err := app.poll(waiting, func(ctx context.Context) (bool, error) {
		again, err := app.hasRebooted(ctx, node, asked)
		switch {
		case !inMaintenance(err):
			maintenance = time.Time{}
		case maintenance.IsZero():
			maintenance = app.now()
		case app.now().Sub(maintenance) > joinTime:
			return true, nil
		}
		return again, err
	})
	watch.hearOut()
	if err != nil {
		return err
	}
	if !maintenance.IsZero() {
		_, err := fmt.Fprintln(app.stdout, "the node is reset and waits for a config")
		return err
	}
	formatted, err := wasFormatted(ctx, node)
	if err != nil {
		return fmt.Errorf("ask whether the node was reset: %w", err)
	}
	if !formatted {
		if watch.failed != "" {
			return fmt.Errorf("the node was not reset and has started again as it was: %s: %s", watch.failed, watch.reason)
		}
		return errors.New("the node was not reset and has started again as it was")
	}
	_, err = fmt.Fprintf(app.stdout, "the node is reset and has started again after %s\n", app.now().Sub(asked).Round(time.Second))
	return err
}
