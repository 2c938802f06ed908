package main

import (
	"github.com/spf13/cobra"
)

func (app *app) imageCommand() *cobra.Command {
	return group("image", "List, import, pin and remove the nodes' container images",
		app.imageListCommand(), app.imageImportCommand(), app.imagePinCommand(true), app.imagePinCommand(false), app.imageRemoveCommand())
}
