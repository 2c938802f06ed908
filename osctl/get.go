package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
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
	showKind := flags.Bool("show-kind", false, "put the kind before the names, as for several resources")
	sortBy := flags.String("sort-by", "", "field to sort by, as a JSONPath: .metadata.creationTimestamp")
	ignoreNotFound := flags.Bool("ignore-not-found", false, "a name that does not exist is no error")
	chunkSize := flags.Uint32("chunk-size", 500, "objects to ask the server for at a time; 0 means all at once")
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
		if *watch && *ignoreNotFound {
			return usagef("-w needs an object that exists, or a selector: --ignore-not-found does not go with it")
		}
		options := printOptions{
			namespaces: selection.all, noHeaders: *noHeaders, managedFields: *managedFields,
			showLabels: *showLabels, labelColumns: *labelColumns, sortBy: *sortBy, prefix: *showKind,
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
		getting := &getting{app: app, node: node, printer: printer, ignoreNotFound: *ignoreNotFound, chunkSize: *chunkSize}
		return getting.all(command.Context(), selections)
	}
	return command
}

// getting is one call of get.
type getting struct {
	app            *app
	node           *client.Client
	printer        *objectPrinter
	ignoreNotFound bool
	// chunkSize is how many objects are asked for at a time; zero means all.
	chunkSize uint32
	total     int
	failed    []error
}

// all prints the selections. What one of them lacks, or the user may not see,
// keeps nothing of the others back; the command fails in the end.
func (g *getting) all(ctx context.Context, selections []*workload.Selection) error {
	several := len(selections) > 1
	if several && !g.printer.isTable() && g.printer.format != asName {
		g.printer.gather()
	}
	for _, one := range selections {
		if several && g.printer.isTable() {
			options := g.printer.options
			options.separate = g.total > 0
			options.prefix = true
			// Another resource's columns have widths of their own.
			printer, err := newObjectPrinter(g.printer.format, options)
			if err != nil {
				return err
			}
			g.printer = printer
		}
		err := g.one(ctx, one)
		switch status.Code(err) {
		case codes.NotFound, codes.PermissionDenied:
			g.failed = append(g.failed, err)
			continue
		}
		if err != nil {
			return err
		}
	}
	if g.total == 0 && len(g.failed) == 0 && g.printer.isTable() && !g.ignoreNotFound {
		g.app.sayNothingFound(selections[0])
	}
	if err := g.printer.finish(g.app.stdout); err != nil || len(g.failed) == 0 {
		return err
	}
	for _, err := range g.failed {
		fmt.Fprintln(g.app.stderr, g.app.paint(red, "error:"), g.app.explain(err))
	}
	return errReported
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

// one prints one selection.
func (g *getting) one(ctx context.Context, selection *workload.Selection) error {
	request := &workload.GetRequest{
		Selection: selection, Output: g.printer.wants(), IncludeObjects: g.printer.options.sortBy != "", ColumnsOnly: g.printer.readsColumnsOnly(),
		IgnoreNotFound: g.ignoreNotFound, Limit: g.chunkSize,
	}
	var pages [][]byte
	for {
		answer, err := g.node.Workload.Get(ctx, request)
		if status.Code(err) == codes.Aborted && request.GetContinue() != "" {
			// The server has forgotten what the list looked like.
			request.Limit, request.Continue, pages = 0, "", nil
			continue
		}
		if err != nil {
			return err
		}
		for _, message := range answer.GetNotFound() {
			g.failed = append(g.failed, errors.New(message))
		}
		if len(answer.GetJson()) == 0 {
			return nil
		}
		g.printer.kind = answer.GetKind()
		pages = append(pages, answer.GetJson())
		if request.Continue = answer.GetContinue(); request.Continue == "" {
			break
		}
	}
	count, err := g.printer.print(g.app.stdout, pages...)
	g.total += count
	return err
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
		printer.kind = change.GetKind()
		_, err := printer.print(app.stdout, change.GetJson())
		return err
	})
}
