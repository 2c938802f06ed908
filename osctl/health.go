package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/keelson-os/keelson/pkg/api/cluster"
	"github.com/keelson-os/keelson/pkg/client"
)

// maxAwaited is how many characters a step says of what it waits for.
const maxAwaited = 100

func (app *app) healthCommand() *cobra.Command {
	command := &cobra.Command{
		Use: "health", Short: "Check the node and its cluster", Args: cobra.NoArgs,
	}
	output := addOutput(command, asTable, asJSON, asYAML)
	wait := command.Flags().Bool("wait", false, "wait until every check passes")
	timeout := command.Flags().Duration("timeout", 10*time.Minute, "how long to wait")
	command.RunE = func(command *cobra.Command, _ []string) error {
		node, err := app.connect(command.Context())
		if err != nil {
			return err
		}
		var answer *cluster.HealthResponse
		var waitErr error
		if *wait {
			answer, waitErr = app.waitHealthy(command.Context(), node, *timeout, nil)
		} else {
			answer, err = node.Cluster.Health(command.Context(), &cluster.HealthRequest{})
			if err != nil {
				return err
			}
		}
		if answer != nil {
			if err := app.printHealth(output.value, answer); err != nil {
				return err
			}
		}
		if waitErr != nil {
			return waitErr
		}
		if !answer.GetHealthy() {
			return errors.New("not healthy: see the checks above; osctl services, osctl logs SERVICE and osctl events say more")
		}
		return nil
	}
	return command
}

func (app *app) printHealth(format string, answer *cluster.HealthResponse) error {
	if format != asTable {
		return app.printMessage(format, answer)
	}
	table := newTable("CHECK", "RESULT", "MESSAGE")
	for _, check := range answer.GetChecks() {
		result := cell{"ok", green}
		if !check.GetOk() {
			result = cell{"failed", red}
		}
		table.add(check.GetName(), result, check.GetMessage())
	}
	return app.print(table)
}

// waitHealthy asks until every check passes and returns the last answer, which
// may be nil. progress, if set, hears what is still awaited.
func (app *app) waitHealthy(ctx context.Context, node *client.Client, timeout time.Duration, progress func(string)) (*cluster.HealthResponse, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, fmt.Errorf("not healthy within %s", timeout))
	defer cancel()
	var last *cluster.HealthResponse
	err := app.poll(ctx, func(ctx context.Context) (bool, error) {
		answer, err := node.Cluster.Health(ctx, &cluster.HealthRequest{})
		if err != nil {
			return false, err
		}
		last = answer
		if progress != nil {
			progress(awaited(answer))
		}
		return answer.GetHealthy(), nil
	})
	if failed := firstFailed(last); err != nil && failed != "" {
		err = fmt.Errorf("%w: %s", err, failed)
	}
	return last, err
}

// awaited says in one short line how far the checks are: "5 of 7 checks pass;
// node Ready: …".
func awaited(answer *cluster.HealthResponse) string {
	failed := firstFailed(answer)
	if failed == "" {
		return ""
	}
	passed := 0
	for _, check := range answer.GetChecks() {
		if check.GetOk() {
			passed++
		}
	}
	// What to do about it is said when it lasts too long.
	failed, _, _ = strings.Cut(failed, "\n")
	failed, _, _ = strings.Cut(failed, "; see ")
	return fit(fmt.Sprintf("%d of %d checks pass; %s", passed, len(answer.GetChecks()), failed), maxAwaited)
}

// firstFailed names the first check that does not pass, and why.
func firstFailed(answer *cluster.HealthResponse) string {
	for _, check := range answer.GetChecks() {
		if !check.GetOk() {
			return fmt.Sprintf("%s: %s", check.GetName(), check.GetMessage())
		}
	}
	return ""
}
