package main

import (
	"context"
	"fmt"
	"io"
	"path/filepath"

	"github.com/google/renameio/v2"
	"github.com/spf13/cobra"

	"github.com/keelson-os/keelson/pkg/api/etcd"
	"github.com/keelson-os/keelson/pkg/client"
	"github.com/keelson-os/keelson/pkg/snapshot"
)

// fetched is what snapshot prints.
type fetched struct {
	File     string `json:"file"`
	Size     int64  `json:"size"`
	Revision int64  `json:"revision"`
	Version  string `json:"version,omitempty"`
	SHA256   string `json:"sha256"`
}

func (app *app) etcdSnapshotCommand() *cobra.Command {
	command := &cobra.Command{
		Use: "snapshot FILE", Short: "Fetch a snapshot of the node's etcd data", Args: cobra.ExactArgs(1),
		Long: `Fetch a snapshot of the node's etcd data into FILE, which is for you alone: it
holds all of the cluster but what is encrypted at rest. Its checksum is checked
before it gets that name. It is made now, which needs no quorum; --kept NAME is
one of those that the node made before ("osctl etcd snapshots" lists them).
"osctl bootstrap --recover-from FILE" makes a cluster of it.`,
	}
	output := addOutput(command, asTable, asJSON, asYAML)
	force := command.Flags().Bool("force", false, "replace the file")
	kept := command.Flags().String("kept", "", "`NAME` of a snapshot that the node keeps")
	_ = command.RegisterFlagCompletionFunc("kept", app.completeSnapshots)
	command.RunE = func(command *cobra.Command, args []string) error {
		path := args[0]
		if err := mayWrite(path, *force); err != nil {
			return err
		}
		node, err := app.connect(command.Context())
		if err != nil {
			return err
		}
		got, err := app.fetchSnapshot(command.Context(), node, *kept, path)
		if err != nil {
			return fmt.Errorf("snapshot: %w", err)
		}
		if output.value != asTable {
			return app.printValue(output.value, got)
		}
		version := ""
		if got.Version != "" {
			version = ", etcd " + got.Version
		}
		_, err = fmt.Fprintf(app.stdout, "wrote %s: %s, revision %d%s\n", path, bytes64(got.Size), got.Revision, version)
		return err
	}
	return command
}

// fetchSnapshot writes the file when all of it has come and is found whole. The
// empty name is a snapshot made now.
func (app *app) fetchSnapshot(ctx context.Context, node *client.Client, name, path string) (*fetched, error) {
	// The call ends with this function, whatever happens.
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := node.Etcd.Snapshot(ctx, &etcd.SnapshotRequest{Name: name})
	if err != nil {
		return nil, err
	}
	file, err := renameio.NewPendingFile(path, renameio.WithTempDir(filepath.Dir(path)), renameio.WithPermissions(0o600), renameio.IgnoreUmask())
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Cleanup() }() // does nothing once the file has its name
	got := &fetched{File: path}
	progress := app.newProgress(path)
	defer progress.end()
	var first *etcd.SnapshotResponse // which says what comes
	total := int64(0)
	if err := each(stream, func(message *etcd.SnapshotResponse) error {
		if first == nil {
			first = message
			total, got.Revision, got.Version = message.GetSize(), message.GetRevision(), message.GetVersion()
		}
		got.Size += int64(len(message.GetChunk()))
		progress.sent(got.Size, total)
		_, err := file.Write(message.GetChunk())
		return err
	}); err != nil {
		return nil, err
	}
	progress.end()
	if total > 0 && got.Size != total {
		return nil, fmt.Errorf("%w (%d bytes came of %d)", snapshot.ErrTruncated, got.Size, total)
	}
	sum, err := snapshot.Check(io.NewSectionReader(file, 0, got.Size), got.Size)
	if err != nil {
		return nil, err
	}
	got.SHA256 = fmt.Sprintf("%x", sum)
	if err := file.CloseAtomicallyReplace(); err != nil {
		return nil, fmt.Errorf("write %s: %w", path, err)
	}
	return got, nil
}
