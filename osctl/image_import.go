package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/spf13/cobra"

	"github.com/keelson-os/keelson/pkg/api/image"
)

// archives is what an import was asked for.
type archives struct {
	app    *app
	names  []string
	format string
	pin    bool
}

func (app *app) imageImportCommand() *cobra.Command {
	archives := &archives{app: app}
	command := &cobra.Command{
		Use: "import FILE…", Short: "Import images from OCI or Docker archives",
		Long: `Import images from OCI or Docker archives, plain or compressed with gzip or
zstd. "-" is standard input. An archive that is damaged adds nothing.

For several nodes (-N a,b or -N all) an archive is sent once, to the endpoint,
which hands it on to the others as it comes. A node that fails or lags far behind
costs one line and the exit code 1; the others have the images.`,
		Example: `  osctl image import web.tar.zst
  osctl image import -N all --pin shop/*.tar
  docker save shop/api:1 | osctl image import -N all -`,
		Args: cobra.MinimumNArgs(1),
	}
	command.Flags().BoolVar(&archives.pin, "pin", false, "keep the images however full the disk gets (see image pin)")
	output := addOutput(command, asTable, asJSON, asYAML)
	command.RunE = func(command *cobra.Command, args []string) error {
		nodes, err := app.fanOut(command.Context())
		if err != nil {
			return err
		}
		archives.names, archives.format = args, output.value
		if nodes.labelled {
			return archives.spread(command.Context(), nodes)
		}
		for _, name := range args {
			if err := archives.importOn(command.Context(), nodes.nodes[0], name); err != nil {
				return fmt.Errorf("import %s: %w", name, err)
			}
		}
		return nil
	}
	return command
}

// open returns an archive and its size; zero is unknown.
func (archives *archives) open(name string) (io.ReadCloser, int64, error) {
	if name == "-" {
		return io.NopCloser(archives.app.stdin), 0, nil
	}
	file, err := os.Open(name)
	if err != nil {
		return nil, 0, err
	}
	info, err := file.Stat()
	if err == nil && info.IsDir() {
		err = errors.New("a directory: expected an archive's file")
	}
	if err != nil {
		file.Close()
		return nil, 0, err
	}
	return file, info.Size(), nil
}

// importOn sends one archive to one node.
func (archives *archives) importOn(ctx context.Context, node *askedNode, name string) error {
	reader, total, err := archives.open(name)
	if err != nil {
		return err
	}
	defer reader.Close()
	// The call ends with this function, whatever happens.
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := node.Image.Import(ctx)
	if err != nil {
		return err
	}
	progress := archives.app.newProgress(name)
	progress.quiet = node.fanout.labelled // the lines of several would overwrite each other
	defer progress.end()
	first := image.ImportRequest{Pin: archives.pin}
	if err := upload(reader, total, progress, func(chunk []byte) error {
		first.Chunk = chunk
		defer first.Reset()
		return stream.Send(&first)
	}); err != nil {
		return err
	}
	progress.say("sent, being unpacked")
	answer, err := stream.CloseAndRecv()
	if err != nil {
		return err
	}
	progress.end()
	return archives.imported(node, answer)
}

// imported shows what a node has imported.
func (archives *archives) imported(node *askedNode, answer *image.ImportResponse) error {
	if archives.format != asTable {
		return node.message(archives.format, answer)
	}
	for _, one := range answer.GetImages() {
		if err := node.line(fmt.Sprintf("%s imported (%s, %s)", one.GetName(), shortDigest(one.GetDigest()), size(uint64(max(one.GetSize(), 0))))); err != nil {
			return err
		}
	}
	return nil
}

// ways groups nodes by the uploads that they take: one for each that is dialled
// by itself, one for many others.
func ways(nodes []*askedNode) [][]*askedNode {
	var direct, behind [][]*askedNode
	var through []*askedNode
	for _, node := range nodes {
		if node.direct {
			direct = append(direct, []*askedNode{node})
		} else {
			through = append(through, node)
		}
	}
	for some := range slices.Chunk(through, maxShared) {
		behind = append(behind, some)
	}
	return append(behind, direct...)
}
