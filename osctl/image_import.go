package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/keelson-os/keelson/pkg/api/image"
)

func (app *app) imageImportCommand() *cobra.Command {
	command := &cobra.Command{
		Use: "import FILE…", Short: "Import images from OCI or Docker archives",
		Long: `Import images from OCI or Docker archives, plain or compressed with gzip or
zstd. "-" is standard input. An archive that is damaged adds nothing.`,
		Args: cobra.MinimumNArgs(1),
	}
	output := addOutput(command, asTable, asJSON, asYAML)
	command.RunE = func(command *cobra.Command, args []string) error {
		nodes, err := app.fanOut(command.Context())
		if err != nil {
			return err
		}
		if nodes.labelled && slices.Contains(args, "-") {
			return usagef("standard input can be read once only: give a file for several nodes")
		}
		return nodes.each(command.Context(), maxAsked, func(ctx context.Context, node *askedNode) error {
			for _, name := range args {
				if err := app.importArchive(ctx, node, name, output.value); err != nil {
					return fmt.Errorf("import %s: %w", name, err)
				}
			}
			return nil
		})
	}
	return command
}

func (app *app) importArchive(ctx context.Context, node *askedNode, name, format string) error {
	reader, total := app.stdin, int64(0)
	if name != "-" {
		file, err := os.Open(name)
		if err != nil {
			return err
		}
		defer file.Close()
		info, err := file.Stat()
		if err != nil {
			return err
		}
		if info.IsDir() {
			return errors.New("a directory: expected an archive's file")
		}
		reader, total = file, info.Size()
	}
	// The call ends with this function, whatever happens.
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := node.Image.Import(ctx)
	if err != nil {
		return err
	}
	progress := app.newProgress(name)
	progress.quiet = node.fanout.labelled // the lines of several would overwrite each other
	defer progress.end()
	if err := upload(reader, total, progress, func(chunk []byte) error {
		return stream.Send(&image.ImportRequest{Chunk: chunk})
	}); err != nil {
		return err
	}
	answer, err := stream.CloseAndRecv()
	if err != nil {
		return err
	}
	progress.end()
	if format != asTable {
		return node.message(format, answer)
	}
	for _, one := range answer.GetImages() {
		if err := node.line(fmt.Sprintf("%s imported (%s, %s)", one.GetName(), shortDigest(one.GetDigest()), size(uint64(max(one.GetSize(), 0))))); err != nil {
			return err
		}
	}
	return nil
}

// progress redraws one line while an archive is sent; off a terminal it is
// silent.
type progress struct {
	app   *app
	name  string
	quiet bool
	drawn time.Time
}

func (app *app) newProgress(name string) *progress { return &progress{app: app, name: name} }

// sent draws at most ten times a second. A total of zero is unknown.
func (progress *progress) sent(bytes, total int64) {
	now := progress.app.now()
	if progress.quiet || !progress.app.live || now.Sub(progress.drawn) < 100*time.Millisecond {
		return
	}
	progress.drawn = now
	of := ""
	if total > 0 {
		of = fmt.Sprintf(" of %s (%d %%)", size(uint64(total)), 100*bytes/total)
	}
	fmt.Fprintf(progress.app.stderr, "\r\x1b[K%s: %s%s", progress.name, size(uint64(bytes)), of)
}

// end removes the line.
func (progress *progress) end() {
	if !progress.drawn.IsZero() {
		fmt.Fprint(progress.app.stderr, "\r\x1b[K")
		progress.drawn = time.Time{}
	}
}
