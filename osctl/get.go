package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	cmdutil "k8s.io/kubectl/pkg/cmd/util"
	"k8s.io/kubectl/pkg/rawhttp"

	"github.com/keelson-os/keelson/pkg/api/workload"
	"github.com/keelson-os/keelson/pkg/client"
)

func (app *app) getCommand() *cobra.Command {
	command := &cobra.Command{
		Use: "get RESOURCE [NAME…] | get -f FILE|DIR|URL|- | get --raw PATH", Short: "Show objects of the cluster",
		Example: `  osctl get pods -A
  osctl get deployments,services -n shop
  osctl get pod/web-0 -o yaml
  osctl get pods -l app=web -w
  osctl get pods --sort-by=.status.startTime -L app
  osctl get pods -o custom-columns=NAME:.metadata.name,IMAGE:.spec.containers[*].image
  osctl get -f manifests/
  osctl get --raw '/readyz?verbose'
  osctl get node node-1 -o jsonpath='{.status.nodeInfo.kernelVersion}'`,
		ValidArgsFunction: app.completeResources,
	}
	output := addOutput(command, asTable, asWide, asJSON, asYAML, asName, "jsonpath=TEMPLATE", "jsonpath-file=FILE",
		"go-template=TEMPLATE", "go-template-file=FILE", "custom-columns=SPEC", "custom-columns-file=FILE")
	var selection selectionFlags
	selection.add(command)
	app.completeNamespaces(command)
	var manifests manifestFlags
	manifests.add(command)
	flags := command.Flags()
	raw := flags.String("raw", "", "print what the Kubernetes API answers at this path: /readyz?verbose")
	watch := flags.BoolP("watch", "w", false, "keep showing changes")
	watchOnly := flags.Bool("watch-only", false, "show changes alone, not what is there")
	noHeaders := flags.Bool("no-headers", false, "print no header line")
	showLabels := flags.Bool("show-labels", false, "add a column of all labels")
	labelColumns := flags.StringSliceP("label-columns", "L", nil, "labels that get a column of their own")
	sortBy := flags.String("sort-by", "", "field to sort by, as a JSONPath: .metadata.creationTimestamp")
	managedFields := flags.Bool("show-managed-fields", false, "keep managedFields in JSON and YAML")
	command.RunE = func(command *cobra.Command, args []string) error {
		*watch = *watch || *watchOnly
		if *raw != "" {
			if len(args) > 0 || manifests.given() || *watch || output.value != asTable {
				return usagef("--raw PATH is answered by the server as it is: expected no resource, -f, -w or -o with it")
			}
			return app.getRaw(command, *raw)
		}
		selections, err := app.selected(command, &selection, &manifests, args)
		if err != nil {
			return err
		}
		if *watch && len(selections) > 1 {
			return usagef("-w shows one resource at a time")
		}
		options := printOptions{
			namespaces: selection.all, noHeaders: *noHeaders, managedFields: *managedFields,
			showLabels: *showLabels, labelColumns: *labelColumns, sortBy: *sortBy,
		}
		if *watch && *sortBy != "" {
			return usagef("-w shows changes as they come: they cannot be sorted")
		}
		printer, err := newObjectPrinter(output.value, options)
		if err != nil {
			return err
		}
		node, err := app.connect(command.Context())
		if err != nil {
			return err
		}
		if *watch {
			return app.watch(command.Context(), node, &workload.WatchRequest{Selection: selections[0], OnlyChanges: *watchOnly}, printer)
		}
		if len(selections) > 1 && !printer.isTable() && output.value != asName {
			printer.gather()
		}
		total := 0
		for _, one := range selections {
			if len(selections) > 1 && printer.isTable() {
				options.separate = total > 0
				// Another resource's columns have widths of their own.
				options.prefix = true
				if printer, err = newObjectPrinter(output.value, options); err != nil {
					return err
				}
			}
			count, err := app.get(command.Context(), node, one, printer)
			if err != nil {
				return err
			}
			total += count
		}
		if total == 0 && printer.isTable() {
			app.sayNothingFound(selections[0])
		}
		return printer.finish(app.stdout)
	}
	return command
}

// getRaw prints the answer of the Kubernetes API at a path, as it is.
func (app *app) getRaw(command *cobra.Command, path string) error {
	k := &kubernetes{app: app}
	return k.run(command, func() {
		client, err := k.factory().RESTClient()
		cmdutil.CheckErr(err)
		cmdutil.CheckErr(rawhttp.RawGet(client, genericiooptions.IOStreams{In: app.stdin, Out: app.stdout, ErrOut: app.stderr}, path))
	})
}

// selected is what is to be shown: what the manifests name, or what the arguments
// say.
func (app *app) selected(command *cobra.Command, selection *selectionFlags, manifests *manifestFlags, args []string) ([]*workload.Selection, error) {
	if !manifests.given() {
		return selection.parse(args)
	}
	if len(args) > 0 || selection.all || selection.labels != "" || selection.fields != "" {
		return nil, usagef("-f names the objects: expected no resource, selector or -A with it")
	}
	read, err := manifests.read(command.Context(), app)
	if err != nil {
		return nil, err
	}
	return selection.named(read)
}

// get prints one selection and returns how many objects it has.
func (app *app) get(ctx context.Context, node *client.Client, selection *workload.Selection, printer *objectPrinter) (int, error) {
	answer, err := node.Workload.Get(ctx, &workload.GetRequest{
		Selection: selection, Output: printer.wants(), IncludeObjects: printer.options.sortBy != "",
	})
	if err != nil {
		return 0, err
	}
	printer.kind = answer.GetKind()
	return printer.print(app.stdout, answer.GetJson())
}

// sayNothingFound uses kubectl's words, which scripts know, on stderr: one
// that counts lines is not misled. Objects come as an empty list instead.
func (app *app) sayNothingFound(selection *workload.Selection) {
	namespace := selection.GetNamespace()
	if namespace == "" {
		namespace = metav1.NamespaceDefault
	}
	if selection.GetAllNamespaces() {
		fmt.Fprintln(app.stderr, "No resources found")
		return
	}
	fmt.Fprintf(app.stderr, "No resources found in %s namespace.\n", namespace)
}

func (app *app) watch(ctx context.Context, node *client.Client, request *workload.WatchRequest, printer *objectPrinter) error {
	request.Output = printer.wants()
	stream, err := node.Workload.Watch(ctx, request)
	if err != nil {
		return err
	}
	if printer.isTable() && app.terminal {
		return each(stream, newRedrawnTable(app, printer).show)
	}
	return each(stream, func(change *workload.WatchResponse) error {
		_, err := printer.print(app.stdout, change.GetJson())
		return err
	})
}
