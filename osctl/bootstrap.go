package main

import (
	"context"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/keelson-os/keelson/pkg/api/cluster"
	"github.com/keelson-os/keelson/pkg/client"
	"github.com/keelson-os/keelson/pkg/snapshot"
)

func (app *app) bootstrapCommand() *cobra.Command {
	command := &cobra.Command{
		Use: "bootstrap", Short: "Make the node the first of a new cluster", Args: cobra.NoArgs,
		Long: `Make the node the first member of a new cluster's etcd. It is called once, for
one control-plane node of a new cluster; the others join by themselves.

With --recover-from the new cluster holds what a snapshot holds ("osctl etcd
snapshot"): for when most control-plane nodes are lost. The nodes may have other
addresses than before; their secrets must be the old cluster's. A snapshot that
is truncated, altered or of another etcd version is refused, and changes nothing.`,
	}
	from := command.Flags().String("recover-from", "", "snapshot `FILE` that the cluster is made of")
	_ = command.MarkFlagFilename("recover-from")
	command.RunE = func(command *cobra.Command, _ []string) error {
		ctx := command.Context()
		if command.Flags().Changed("recover-from") {
			return app.recoverCluster(ctx, *from)
		}
		node, err := app.connectNamed(ctx)
		if err != nil {
			return err
		}
		if _, err := node.Cluster.Bootstrap(ctx, &cluster.BootstrapRequest{}); err != nil {
			return fmt.Errorf("bootstrap: %w", err)
		}
		_, err = fmt.Fprintln(app.stdout, "bootstrapped; next: osctl health --wait")
		return err
	}
	return command
}

// recoverCluster sends a snapshot that was found whole.
func (app *app) recoverCluster(ctx context.Context, path string) error {
	file, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("recover from a snapshot: %w", err)
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("recover from %s: not a file", path)
	}
	if _, err := snapshot.Check(io.NewSectionReader(file, 0, info.Size()), info.Size()); err != nil {
		return fmt.Errorf("recover from %s: %w (nothing was sent)", path, err)
	}
	node, err := app.connectNamed(ctx)
	if err != nil {
		return err
	}
	answer, err := app.sendSnapshot(ctx, node, path, io.NewSectionReader(file, 0, info.Size()), info.Size())
	if err != nil {
		return fmt.Errorf("recover from %s: %w", path, err)
	}
	_, err = fmt.Fprintf(app.stdout, "recovered %d keys, revision %d; next: osctl health --wait\n", answer.GetKeys(), answer.GetRevision())
	return err
}

func (app *app) sendSnapshot(ctx context.Context, node *client.Client, name string, reader io.Reader, total int64) (*cluster.RecoverResponse, error) {
	// The call ends with this function, whatever happens.
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := node.Cluster.Recover(ctx)
	if err != nil {
		return nil, err
	}
	progress := app.newProgress(name)
	defer progress.end()
	if err := upload(reader, total, progress, func(chunk []byte) error {
		return stream.Send(&cluster.RecoverRequest{Chunk: chunk})
	}); err != nil {
		return nil, err
	}
	return stream.CloseAndRecv()
}
