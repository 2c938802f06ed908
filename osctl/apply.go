package main

import (
	"errors"

	"github.com/spf13/cobra"

	"github.com/keelson-os/keelson/pkg/api/workload"
)

func (app *app) applyCommand() *cobra.Command {
	command := &cobra.Command{
		Use: "apply -f FILE|DIR|-", Short: "Apply manifests by server-side apply", Args: cobra.NoArgs,
		Long: `Apply manifests by server-side apply, in the order given. An object that
Kubernetes refuses does not stop the others; the command fails in the end.`,
	}
	request := &workload.ApplyRequest{}
	output := addOutput(command, asTable, asJSON, asYAML, asName)
	flags := command.Flags()
	files := flags.StringArrayP("filename", "f", nil, "file, directory, or - for standard input; may be repeated")
	recursive := flags.BoolP("recursive", "R", false, "take the directories' subdirectories too")
	flags.StringVarP(&request.Namespace, "namespace", "n", "", "namespace of objects that name none (default \"default\")")
	flags.BoolVar(&request.ForceConflicts, "force-conflicts", false, "take over fields that another manager owns")
	flags.BoolVar(&request.DryRun, "dry-run", false, "ask Kubernetes what it would do, and change nothing")
	flags.StringVar(&request.FieldManager, "field-manager", "", "who owns the fields (default \"osctl\")")
	command.RunE = func(command *cobra.Command, _ []string) error {
		if len(*files) == 0 {
			return usagef("-f is required: a file, a directory, or - for standard input")
		}
		var err error
		if request.Manifests, err = app.readManifests(*files, *recursive); err != nil {
			return err
		}
		node, err := app.connect(command.Context())
		if err != nil {
			return err
		}
		stream, err := node.Workload.Apply(command.Context(), request)
		if err != nil {
			return err
		}
		results := &results{app: app, format: output.value}
		if request.DryRun {
			results.suffix = " (dry run)"
		}
		err = each(stream, func(answer *workload.ApplyResponse) error {
			return results.add(answer.GetResult())
		})
		if err != nil {
			return err
		}
		if results.total == 0 {
			return errors.New("no object in the manifests")
		}
		return results.err()
	}
	return command
}
