package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/keelson-os/keelson/pkg/api/install"
)

func (app *app) disksCommand() *cobra.Command {
	command := &cobra.Command{
		Use: "disks", Short: "List the disks that the node could be installed on, and what is on them", Args: cobra.NoArgs,
		Long: `List the disks that the node could be installed on, and what is on them. A node in
maintenance mode answers too, with what its console shows:
  osctl disks --endpoint HOST --fingerprint HEX --pairing-code CODE`,
	}
	output := addOutput(command, asTable, asJSON, asYAML)
	command.RunE = func(command *cobra.Command, _ []string) error {
		nodes, err := app.fanOut(command.Context())
		if err != nil {
			return err
		}
		return ask(command.Context(), nodes, answerTimeout,
			func(ctx context.Context, node *askedNode) (*install.DisksResponse, error) {
				return node.Install.Disks(ctx, &install.DisksRequest{})
			},
			func(answers []answer[*install.DisksResponse]) error {
				if output.value != asTable {
					return printAnswers(nodes, output.value, answers)
				}
				return printDisks(nodes, answers)
			})
	}
	return command
}

func printDisks(nodes *fanout, answers []answer[*install.DisksResponse]) error {
	table := newTable("NODE", "DISK", "SIZE", "TRANSPORT", "MODEL", "SERIAL", "WWN", "CONTENT")
	for _, one := range answers {
		for _, disk := range one.value.GetDisks() {
			table.add(one.node.name, disk.GetPath(), size(disk.GetSize()), disk.GetTransport(), disk.GetModel(), disk.GetSerial(), disk.GetWwn(), disk.GetContent())
		}
	}
	return nodes.print(table)
}

func (app *app) installCommand() *cobra.Command {
	command := &cobra.Command{
		Use: "install --config FILE", Short: "Give a node in maintenance mode its config, and install it", Args: cobra.NoArgs,
		Long: `Give a node in maintenance mode its config. One that was booted from an
installation medium is installed on the disk that the config names
(machine.install); one that is installed, and was reset, keeps the config. The node
then restarts from its disk.

A disk that holds something is refused unless machine.install.wipe is set; osctl
disks shows what is on each. A node whose images on the disk can no longer be
started is started from a medium and repaired (--repair): it keeps its data, and
takes the config.`,
		Example: `  osctl install --endpoint 192.0.2.10 --fingerprint HEX --pairing-code CODE --config controlplane.yaml`,
	}
	repair := command.Flags().Bool("repair", false, "write the medium's image anew to a disk that Keelson is installed on, and keep the node's data")
	file := command.Flags().String("config", "", "the machine config, or \"-\" for standard input (osctl gen config makes one)")
	_ = command.MarkFlagRequired("config") // it is there
	command.RunE = func(command *cobra.Command, _ []string) error {
		config, err := app.readConfig(*file)
		if err != nil {
			return err
		}
		nodes, err := app.fanOutNamed(command.Context())
		if err != nil {
			return err
		}
		if len(nodes.nodes) > 1 {
			return usagef("-N: each node has a config of its own: install one at a time")
		}
		return app.install(command.Context(), nodes.nodes[0], &install.InstallRequest{Config: config, Repair: *repair})
	}
	return command
}

func (app *app) readConfig(file string) ([]byte, error) {
	if file == "-" {
		return io.ReadAll(app.stdin)
	}
	return os.ReadFile(file)
}

func (app *app) install(ctx context.Context, node *askedNode, request *install.InstallRequest) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := node.Install.Install(ctx, request)
	if err != nil {
		return fmt.Errorf("install: %w", err)
	}
	progress := app.newProgress("installing")
	defer progress.end()
	for {
		answer, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return errors.New("install: the node said nothing of the end: see its console")
		}
		if err != nil {
			return fmt.Errorf("install: %w", err)
		}
		if answer.GetDone() {
			progress.end()
			return node.line("installed on " + answer.GetDisk() + "; the node restarts from there")
		}
		progress.sent(answer.GetWritten(), answer.GetTotal())
	}
}
