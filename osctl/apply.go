package main

import (
	"cmp"
	"errors"

	"github.com/spf13/cobra"

	"github.com/keelson-os/keelson/pkg/api/workload"
)

func (app *app) applyCommand() *cobra.Command {
	command := &cobra.Command{
		Use: "apply -f FILE|DIR|URL|- | apply -k DIR", Short: "Apply manifests by server-side apply", Args: cobra.NoArgs,
		Long: `Apply manifests by server-side apply, in the order given. An object that
Kubernetes refuses does not stop the others; the command fails in the end.
With -o json or yaml, the objects are printed as they are afterwards.

With --prune, what the same field manager applied earlier and the manifests no
longer hold is deleted: objects with the labels of -l, in the namespaces that
were applied to. Nothing is, if Kubernetes refused any object.`,
		Example: `  osctl apply -f shop/
  osctl apply -f - --dry-run=server
  osctl apply -k overlays/production
  osctl apply -f shop/ --prune -l app.kubernetes.io/part-of=shop`,
	}
	request := &workload.ApplyRequest{}
	output := addOutput(command, asTable, asJSON, asYAML, asName)
	flags := command.Flags()
	var manifests manifestFlags
	manifests.add(command)
	flags.StringVarP(&request.Namespace, "namespace", "n", "", "namespace of objects that name none (default \"default\")")
	flags.BoolVar(&request.ForceConflicts, "force-conflicts", false, "take over fields that another manager owns")
	dryRun := addDryRun(command)
	flags.BoolVar(&request.Prune, "prune", false, "delete what was applied earlier and is in no manifest now; needs -l")
	flags.StringVarP(&request.PruneSelector, "selector", "l", "", "labels of what --prune may delete")
	serverSide := flags.Bool("server-side", true, "apply on the server; there is no other way here")
	flags.StringVar(&request.FieldManager, "field-manager", "", "who owns the fields (default \"osctl\")")
	command.RunE = func(command *cobra.Command, _ []string) error {
		switch {
		case !manifests.given():
			return usagef("-f or -k is required: a file, a directory, a URL, or - for standard input")
		case request.Prune != (request.PruneSelector != ""):
			return usagef("--prune and -l belong together: the labels say what may be deleted")
		case !*serverSide:
			return usagef("--server-side=false: osctl applies on the server only")
		}
		request.DryRun = dryRun.on
		results := &results{app: app, format: output.value}
		if request.DryRun {
			results.suffix = " (dry run)"
		}
		var err error
		if output.value == asJSON || output.value == asYAML {
			if results.objects, err = newObjectPrinter(output.value, printOptions{}); err != nil {
				return err
			}
			results.objects.gather()
			request.ReturnObjects = true
		}
		if request.Manifests, err = manifests.read(command.Context(), app); err != nil {
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
		err = each(stream, func(answer *workload.ApplyResponse) error {
			if results.objects != nil && len(answer.GetJson()) > 0 {
				if _, err := results.objects.print(app.stdout, answer.GetJson()); err != nil {
					return err
				}
			}
			return results.add(answer.GetResult())
		})
		if results.objects != nil {
			// Those before an error were applied.
			err = cmp.Or(err, results.objects.finishApplied(app.stdout))
		}
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

// dryRunFlag is kubectl's --dry-run[=none|client|server]. Kubernetes is asked
// in any case, which finds more: client is the same as server.
type dryRunFlag struct{ on bool }

func addDryRun(command *cobra.Command) *dryRunFlag {
	flag := &dryRunFlag{}
	command.Flags().Var(flag, "dry-run", "none, or server: ask Kubernetes what it would do, and change nothing")
	command.Flags().Lookup("dry-run").NoOptDefVal = "server"
	return flag
}

func (flag *dryRunFlag) String() string {
	if flag.on {
		return "server"
	}
	return "none"
}

func (flag *dryRunFlag) Type() string { return "mode" }

func (flag *dryRunFlag) Set(value string) error {
	switch value {
	case "server", "client", "true":
		flag.on = true
	case "none", "false":
		flag.on = false
	default:
		return errors.New("expected none or server")
	}
	return nil
}
