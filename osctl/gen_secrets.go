package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/keelson-os/keelson/pkg/machineconfig"
)

func (app *app) genSecretsCommand() *cobra.Command {
	command := &cobra.Command{
		Use: "secrets CLUSTER", Short: "Make the secrets of a new cluster", Args: cobra.ExactArgs(1),
		Long: `Make the secrets of a new cluster: its certificate authorities and keys. Who has
the file owns the cluster; it is needed again to add nodes and users.`,
	}
	file := command.Flags().StringP("output-file", "f", "secrets.yaml", "file to write, or - for standard output")
	force := command.Flags().Bool("force", false, "replace a file that exists")
	command.RunE = func(_ *cobra.Command, args []string) error {
		secrets, err := machineconfig.NewSecrets(args[0], app.now())
		if err != nil {
			return err
		}
		text, err := machineconfig.Encode(&machineconfig.Config{Secrets: secrets})
		if err != nil {
			return err
		}
		if *file == "-" {
			_, err := app.stdout.Write(text)
			return err
		}
		if err := writeSecretFile(*file, text, *force); err != nil {
			return err
		}
		_, err = fmt.Fprintf(app.stdout, "wrote %s; next: osctl gen config %s --secrets %s --control-plane ADDRESS\n", *file, args[0], *file)
		return err
	}
	return command
}
