package main

import (
	"github.com/spf13/cobra"
)

func (app *app) imageCommand() *cobra.Command {
	return group("image", "List, import and remove the node's container images",
		app.imageListCommand(), app.imageImportCommand(), app.imageRemoveCommand())
}
