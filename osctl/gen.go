package main

import "github.com/spf13/cobra"

func (app *app) genCommand() *cobra.Command {
	return group("gen", "Make secrets and machine configs for a new cluster",
		app.genSecretsCommand(), app.genConfigCommand())
}
