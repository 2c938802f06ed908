package main

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"github.com/keelson-os/keelson/pkg/api/etcd"
)

// snapshotsTimeout is how long a node may take to list its snapshots: it reads
// each of them once.
const snapshotsTimeout = 2 * time.Minute

func (app *app) etcdSnapshotsCommand() *cobra.Command {
	command := &cobra.Command{
		Use: "snapshots", Short: "List the snapshots that the node made by itself and keeps", Args: cobra.NoArgs,
		Long: `List the snapshots that the node made by itself and keeps. How often and how
many is cluster.etcd.snapshots of the config. "osctl etcd snapshot FILE --kept
NAME" fetches one.`,
	}
	output := addOutput(command, asTable, asJSON, asYAML, asName)
	command.RunE = func(command *cobra.Command, _ []string) error {
		nodes, err := app.etcdNodes(command.Context())
		if err != nil {
			return err
		}
		return ask(command.Context(), nodes, snapshotsTimeout,
			func(ctx context.Context, node *askedNode) (*etcd.SnapshotsResponse, error) {
				return node.Etcd.Snapshots(ctx, &etcd.SnapshotsRequest{})
			},
			func(answers []answer[*etcd.SnapshotsResponse]) error {
				switch output.value {
				case asTable:
					return app.printSnapshots(nodes, answers)
				case asName:
					return printNames(answers, (*etcd.SnapshotsResponse).GetSnapshots)
				}
				return printAnswers(nodes, output.value, answers)
			})
	}
	return command
}

func (app *app) printSnapshots(nodes *fanout, answers []answer[*etcd.SnapshotsResponse]) error {
	table := newTable("NODE", "NAME", "AGE", "SIZE", "REVISION", "INTACT", "STORED")
	problems := newTable("NODE", "PROBLEM")
	for _, answer := range answers {
		for _, one := range answer.value.GetSnapshots() {
			intact, stored := cell{"yes", green}, ""
			if !one.GetIntact() {
				intact = cell{"no", red}
			}
			if one.GetStored() {
				stored = "yes"
			}
			table.add(answer.node.name, one.GetName(), age(app.now().Sub(one.GetTime().AsTime())), bytes64(one.GetSize()),
				one.GetRevision(), intact, stored)
		}
		if problem := answer.value.GetProblem(); problem != "" {
			problems.add(answer.node.name, cell{problem, red})
		}
	}
	return app.printTables(nodes, table, problems)
}
