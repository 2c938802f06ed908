package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/keelson-os/keelson/pkg/api/cluster"
	"github.com/keelson-os/keelson/pkg/api/machine"
	"github.com/keelson-os/keelson/pkg/client"
)

// waitOptions bound how long a cluster may take to come up.
type waitOptions struct {
	timeout time.Duration
}

func (options *waitOptions) add(command *cobra.Command) {
	command.Flags().DurationVar(&options.timeout, "timeout", 15*time.Minute, "how long the cluster may take to come up; emulated machines take minutes")
}

// bringUp waits for a cluster's API, bootstraps it unless that was done, and
// waits until all is healthy.
func (app *app) bringUp(ctx context.Context, machines machines, access *client.Context, steps *steps, options waitOptions) error {
	ctx, cancel := context.WithTimeoutCause(ctx, options.timeout, fmt.Errorf("not up within %s", options.timeout))
	defer cancel()
	node, err := app.connectTo(ctx, access.Options(""))
	if err != nil {
		return err
	}
	defer node.Close()

	steps.begin("waiting for the node's API")
	if err := app.waitAPI(ctx, machines, node); err != nil {
		return err
	}
	steps.begin("bootstrapping")
	if err := app.bootstrapOnce(ctx, node); err != nil {
		return err
	}
	steps.begin("waiting until everything is healthy")
	_, err = app.waitHealthy(ctx, node, options.timeout, steps.detail)
	return err
}

// waitAPI waits until the node answers with a certificate of the cluster. It
// gives up when the machine is off, or in maintenance mode.
func (app *app) waitAPI(ctx context.Context, machines machines, node *client.Client) error {
	return app.poll(ctx, func(ctx context.Context) (bool, error) {
		_, err := node.Machine.Version(ctx, &machine.VersionRequest{})
		if err == nil {
			return true, nil
		}
		state, statusErr := machines.Status(ctx)
		if statusErr != nil {
			return false, err
		}
		for _, one := range state.Nodes {
			if one.PID == 0 {
				return false, finalError{fmt.Errorf("the machine of node %s has ended: see its console %s and the log beside it", one.Name, one.Console)}
			}
			if strings.Contains(err.Error(), "unknown authority") {
				return false, finalError{fmt.Errorf("node %s did not take its config and is in maintenance mode: its console %s says why", one.Name, one.Console)}
			}
		}
		return false, err
	})
}

// bootstrapOnce bootstraps a cluster; that it was done before is no error.
func (app *app) bootstrapOnce(ctx context.Context, node *client.Client) error {
	return app.poll(ctx, func(ctx context.Context) (bool, error) {
		_, err := node.Cluster.Bootstrap(ctx, &cluster.BootstrapRequest{})
		if status.Code(err) == codes.FailedPrecondition {
			return true, nil
		}
		return err == nil, err
	})
}
