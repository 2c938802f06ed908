package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/keelson-os/keelson/pkg/api/cluster"
	"github.com/keelson-os/keelson/pkg/api/etcd"
)

// defragTimeout is how long one member may take: it rewrites its database.
const defragTimeout = 10 * time.Minute

func (app *app) etcdDefragCommand() *cobra.Command {
	command := &cobra.Command{
		Use: "defrag", Short: "Give the space of deleted keys back to the disk", Args: cobra.NoArgs,
		Long: `Give the space of deleted keys back to the disk. The node's member answers
nobody meanwhile. With several nodes (-N) they are done one after the other, the
leader last, and a failure ends it. etcd defragments by itself when it pays:
this is for when its database is full.`,
	}
	output := addOutput(command, asTable, asJSON, asYAML)
	command.RunE = func(command *cobra.Command, _ []string) error {
		nodes, err := app.fanOutNamed(command.Context(), (*cluster.Node).GetControlPlane)
		if err != nil {
			return err
		}
		return app.defragment(command.Context(), nodes, output.value)
	}
	return command
}

// defragment does it to one node after the other: two at once might take the
// quorum away.
func (app *app) defragment(ctx context.Context, nodes *fanout, format string) error {
	var order []*askedNode
	leads := map[*askedNode]bool{}
	err := ask(ctx, nodes, answerTimeout,
		func(ctx context.Context, node *askedNode) (*etcd.StatusResponse, error) {
			return node.Etcd.Status(ctx, &etcd.StatusRequest{})
		},
		func(answers []answer[*etcd.StatusResponse]) error {
			for _, answer := range answers {
				order, leads[answer.node] = append(order, answer.node), answer.value.GetLeader()
			}
			return nil
		})
	if err != nil {
		return err // with a member missing, the others are needed
	}
	slices.SortStableFunc(order, func(a, b *askedNode) int {
		switch {
		case leads[a] == leads[b]:
			return 0
		case leads[a]:
			return 1
		}
		return -1
	})
	for _, node := range order {
		done, err := defragmentNode(ctx, node)
		if err != nil {
			return err
		}
		if format != asTable {
			err = node.message(format, done)
		} else {
			err = node.line(fmt.Sprintf("defragmented in %s: %s before, %s after",
				done.GetTook().AsDuration().Round(time.Millisecond), bytes64(done.GetBefore()), bytes64(done.GetAfter())))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func defragmentNode(ctx context.Context, node *askedNode) (*etcd.DefragmentResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, defragTimeout)
	defer cancel()
	done, err := node.Etcd.Defragment(ctx, &etcd.DefragmentRequest{})
	if err != nil && node.fanout.labelled {
		node.complain(err)
		return nil, errReported
	}
	return done, err
}
