package main

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/keelson-os/keelson/pkg/api/cluster"
)

// maxAwaited is how many characters a step says of what it waits for.
const maxAwaited = 100

func (app *app) healthCommand() *cobra.Command {
	command := &cobra.Command{
		Use: "health", Short: "Check every node of the cluster, or those of -N", Args: cobra.NoArgs,
		Long: `Check every node of the cluster, or those of -N: which checks pass, which fail,
and what to do. A node that does not answer fails. The exit code is 1 when
anything does.`,
	}
	output := addOutput(command, asTable, asJSON, asYAML)
	wait := command.Flags().Bool("wait", false, "wait until every check passes on every node")
	timeout := command.Flags().Duration("timeout", 10*time.Minute, "how long to wait")
	command.RunE = func(command *cobra.Command, _ []string) error {
		check, err := app.newHealthCheck(command.Context())
		if err != nil {
			return err
		}
		var report healthReport
		if *wait {
			report, err = check.wait(command.Context(), *timeout)
		} else {
			report, err = check.run(command.Context())
		}
		if len(report.answers) > 0 {
			if printErr := report.print(output.value); printErr != nil {
				return printErr
			}
		}
		if err == nil && !report.healthy() {
			err = errors.New("not healthy: see the checks above; osctl services, osctl logs SERVICE and osctl node-events say more")
		}
		return err
	}
	return command
}

// healthReport is what the nodes found when they checked themselves.
type healthReport struct {
	fan     *fanout
	answers []answer[*cluster.HealthResponse]
	// cut is set if the end of the wait left a node less time than it may take.
	cut bool
}

func (report healthReport) healthy() bool {
	for _, answer := range report.answers {
		if !answer.value.GetHealthy() {
			return false
		}
	}
	return len(report.answers) > 0
}

func (report healthReport) print(format string) error {
	if format != asTable {
		return printAnswers(report.fan, format, report.answers)
	}
	table := newTable("NODE", "CHECK", "RESULT", "MESSAGE")
	for _, answer := range report.answers {
		for _, check := range answer.value.GetChecks() {
			result := cell{"ok", green}
			if !check.GetOk() {
				result = cell{"failed", red}
			}
			table.add(answer.node.name, check.GetName(), result, check.GetMessage())
		}
	}
	return report.fan.print(table)
}

// firstFailed names the first check that does not pass, where, and why.
func (report healthReport) firstFailed() string {
	for _, answer := range report.answers {
		if failed := firstFailed(answer.value); failed != "" {
			if report.fan.labelled {
				failed = "node " + answer.node.name + ": " + failed
			}
			return failed
		}
	}
	return ""
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
