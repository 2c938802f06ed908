package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/keelson-os/keelson/pkg/api/workload"
)

func (app *app) deleteCommand() *cobra.Command {
	command := &cobra.Command{
		Use: "delete RESOURCE NAME… | delete -f FILE|DIR|URL|- | delete -k DIR", Short: "Delete objects by name, selector or manifest",
		Example: `  osctl delete pod web-0
  osctl delete deployment/web service/web
  osctl delete pods -l app=web
  osctl delete -f manifests/`,
		ValidArgsFunction: app.completeResources,
	}
	var selection selectionFlags
	selection.add(command)
	app.completeNamespaces(command)
	output := addOutput(command, asTable, asJSON, asYAML, asName)
	flags := command.Flags()
	var manifests manifestFlags
	manifests.add(command)
	dryRun := addDryRun(command)
	cascade := flags.String("cascade", "background", "what becomes of what the objects own: background or foreground (deleted after or before them), orphan (it stays)")
	flags.Lookup("cascade").NoOptDefVal = "background"
	force := flags.Bool("force", false, "do not wait for pods to end: the same as --grace-period=0")
	now := flags.Bool("now", false, "end pods at once: the same as --grace-period=1")
	timeout := flags.Duration("timeout", 0, "how long to wait until the objects are gone (0: 15 minutes)")
	var all, ignoreNotFound, wait bool
	var grace int64
	flags.BoolVar(&all, "all", false, "every object of the resource in the namespace")
	flags.BoolVar(&wait, "wait", true, "return only when the objects are gone")
	flags.BoolVar(&ignoreNotFound, "ignore-not-found", false, "an object that does not exist is no error")
	flags.Int64Var(&grace, "grace-period", -1, "seconds that a pod is given to end (-1: its own)")
	command.RunE = func(command *cobra.Command, args []string) error {
		policy, known := cascades[*cascade]
		if !known {
			return usagef("--cascade=%s: expected background, foreground or orphan", *cascade)
		}
		switch {
		case *now && (*force || flags.Changed("grace-period")):
			return usagef("--now excludes --force and --grace-period")
		case *now:
			grace = 1
		case *force && grace > 0:
			return usagef("--force does not wait for pods: leave out --grace-period, or give 0")
		case *force:
			grace = 0
		case grace == 0:
			grace = 1 // 0 lets a pod's name go while it may still run: --force says that this is meant
		}
		request := &workload.DeleteRequest{All: all}
		if manifests.given() {
			if len(args) > 0 || all || selection.labels != "" || selection.fields != "" {
				return usagef("-f names the objects: expected no resource, selector or --all with it")
			}
			read, err := manifests.read(command.Context(), app)
			if err != nil {
				return err
			}
			request.Manifests, request.Namespace = read, selection.namespace
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
			}
			request.Selections = selections
		}
		node, err := app.connect(command.Context())
		if err != nil {
			return err
		}
		if wait && !dryRun.on {
			defer time.AfterFunc(firstLook, func() {
				fmt.Fprintln(app.stderr, "waiting until the objects are gone; Ctrl-C ends the waiting, not the deletion")
			}).Stop()
		}
		results := &results{app: app, format: output.value}
		if dryRun.on {
			results.suffix = " (dry run)"
		}
		request.Wait, request.IgnoreNotFound, request.GracePeriodSeconds = wait, ignoreNotFound, grace
		request.Cascade, request.DryRun, request.TimeoutSeconds = policy, dryRun.on, int64(timeout.Round(time.Second).Seconds())
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
		if results.total == 0 {
			fmt.Fprintln(app.stderr, "nothing to delete")
		}
		return results.err()
	}
	return command
}

var cascades = map[string]workload.Cascade{
	"background": workload.Cascade_CASCADE_UNSPECIFIED,
	"foreground": workload.Cascade_CASCADE_FOREGROUND,
	"orphan":     workload.Cascade_CASCADE_ORPHAN,
}
