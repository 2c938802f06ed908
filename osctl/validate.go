package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/keelson-os/keelson/pkg/machineconfig"
)

func (app *app) validateCommand() *cobra.Command {
	return &cobra.Command{
		Use: "validate FILE…", Short: "Check machine configs as a node does", Args: cobra.MinimumNArgs(1),
		Long: `Check machine configs as a node does. Each mistake is told as
FILE:LINE:COLUMN: field: what is expected. "-" is standard input.`,
		RunE: func(_ *cobra.Command, args []string) error {
			bad := 0
			for _, name := range args {
				err := app.validate(name)
				if err == nil {
					fmt.Fprintf(app.stdout, "%s: valid\n", name)
					continue
				}
				bad++
				// A decoder's errors are one on a line, and begin with the file.
				fmt.Fprintln(app.stderr, strings.TrimSpace(err.Error()))
			}
			if bad > 0 {
				return errors.New("not valid: see above")
			}
			return nil
		},
	}
}

func (app *app) validate(name string) error {
	var reader io.Reader = app.stdin
	if name != "-" {
		file, err := os.Open(name)
		if err != nil {
			return err
		}
		defer file.Close()
		reader = file
	}
	_, err := machineconfig.Decode(name, reader)
	return err
}
