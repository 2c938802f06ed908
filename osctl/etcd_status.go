package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/keelson-os/keelson/pkg/api/etcd"
)

func (app *app) etcdStatusCommand() *cobra.Command {
	command := &cobra.Command{
		Use: "status", Short: "Tell how the node's member of etcd is, what is wrong, and what to do", Args: cobra.NoArgs,
	}
	output := addOutput(command, asTable, asJSON, asYAML)
	command.RunE = func(command *cobra.Command, _ []string) error {
		nodes, err := app.etcdNodes(command.Context())
		if err != nil {
			return err
		}
		return ask(command.Context(), nodes, answerTimeout,
			func(ctx context.Context, node *askedNode) (*etcd.StatusResponse, error) {
				return node.Etcd.Status(ctx, &etcd.StatusRequest{})
			},
			func(answers []answer[*etcd.StatusResponse]) error {
				if output.value != asTable {
					return printAnswers(nodes, output.value, answers)
				}
				return app.printEtcdStatus(nodes, answers)
			})
	}
	return command
}

func (app *app) printEtcdStatus(nodes *fanout, answers []answer[*etcd.StatusResponse]) error {
	table := newTable("NODE", "NAME", "ROLE", "VERSION", "DB SIZE", "IN USE", "QUOTA", "TERM", "INDEX", "APPLIED")
	problems := newTable("NODE", "PROBLEM")
	events := newTable("NODE", "AGE", "EVENT")
	for _, answer := range answers {
		one := answer.value
		role := memberRole(one.GetLeader(), one.GetLearner())
		if one.GetMemberId() == "" {
			role = cell{"-", plain}
		}
		table.add(answer.node.name, one.GetName(), role, one.GetVersion(),
			bytes64(one.GetDbSize()), inUse(one), bytes64(one.GetDbQuota()),
			one.GetRaftTerm(), one.GetRaftIndex(), one.GetRaftAppliedIndex())
		for _, problem := range one.GetProblems() {
			problems.add(answer.node.name, cell{problem, red})
		}
		for _, event := range one.GetEvents() {
			events.add(answer.node.name, age(app.now().Sub(event.GetTime().AsTime())), event.GetMessage())
		}
	}
	return app.printTables(nodes, table, problems, events)
}

// printTables prints the tables that have something in them, and the first one
// in any case.
func (app *app) printTables(nodes *fanout, tables ...*table) error {
	for i, table := range tables {
		if i > 0 {
			if len(table.rows) == 1 {
				continue
			}
			if _, err := fmt.Fprintln(app.stdout); err != nil {
				return err
			}
		}
		if err := nodes.print(table); err != nil {
			return err
		}
	}
	return nil
}

// inUse is how much of the database file holds something.
func inUse(one *etcd.StatusResponse) string {
	if one.GetDbSize() <= 0 {
		return "-"
	}
	return fmt.Sprintf("%d %%", 100*one.GetDbSizeInUse()/one.GetDbSize())
}

// bytes64 is size for what the API counts with a sign.
func bytes64(bytes int64) string { return size(uint64(max(bytes, 0))) }
