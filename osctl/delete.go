package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/keelson-os/keelson/pkg/api/workload"
)

func (app *app) deleteCommand() *cobra.Command {
	command := &cobra.Command{
		Use: "delete RESOURCE NAME… | delete -f FILE|DIR|-", Short: "Delete objects by name, selector or manifest",
		Example: `  osctl delete pod web-0
  osctl delete deployment/web service/web
  osctl delete pods -l app=web
  osctl delete -f manifests/`,
	}
	var selection selectionFlags
	selection.add(command)
	output := addOutput(command, asTable, asJSON, asYAML, asName)
	flags := command.Flags()
	files := flags.StringArrayP("filename", "f", nil, "file, directory, or - for standard input; may be repeated")
	recursive := flags.BoolP("recursive", "R", false, "take the directories' subdirectories too")
	var all, ignoreNotFound, wait bool
	var grace int64
	flags.BoolVar(&all, "all", false, "every object of the resource in the namespace")
	flags.BoolVar(&wait, "wait", true, "return only when the objects are gone")
	flags.BoolVar(&ignoreNotFound, "ignore-not-found", false, "an object that does not exist is no error")
	flags.Int64Var(&grace, "grace-period", -1, "seconds that a pod is given to end (-1: its own)")
	command.RunE = func(command *cobra.Command, args []string) error {
		var requests []*workload.DeleteRequest
		if len(*files) > 0 {
			if len(args) > 0 || all || selection.labels != "" || selection.fields != "" {
				return usagef("-f names the objects: expected no resource, selector or --all with it")
			}
			manifests, err := app.readManifests(*files, *recursive)
			if err != nil {
				return err
			}
			requests = append(requests, &workload.DeleteRequest{Manifests: manifests, Namespace: selection.namespace})
		} else {
			selections, err := selection.parse(args)
			if err != nil {
				return err
			}
			for _, one := range selections {
				if len(one.GetNames()) == 0 && !all && selection.labels == "" && selection.fields == "" {
					return usagef("name the %s to delete, or give -l, --field-selector or --all", one.GetResource())
				}
				if all && (len(one.GetNames()) > 0 || selection.labels != "" || selection.fields != "") {
					return usagef("--all excludes names and selectors")
				}
				requests = append(requests, &workload.DeleteRequest{Selection: one, All: all})
			}
		}
		node, err := app.connect(command.Context())
		if err != nil {
			return err
		}
		results := &results{app: app, format: output.value}
		for _, request := range requests {
			request.Wait, request.IgnoreNotFound, request.GracePeriodSeconds = wait, ignoreNotFound, grace
			stream, err := node.Workload.Delete(command.Context(), request)
			if err != nil {
				return err
			}
			err = each(stream, func(answer *workload.DeleteResponse) error {
				return results.add(answer.GetResult())
			})
			if err != nil {
				return err
			}
		}
		if results.total == 0 {
			fmt.Fprintln(app.stderr, "nothing to delete")
		}
		return results.err()
	}
	return command
}
