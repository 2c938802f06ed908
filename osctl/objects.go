package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/liggitt/tabwriter"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/cli-runtime/pkg/printers"
	"k8s.io/kubectl/pkg/cmd/get"

	"github.com/keelson-os/keelson/pkg/api/workload"
)

// printOptions is how get prints besides its format.
type printOptions struct {
	namespaces, noHeaders, managedFields, showLabels bool
	labelColumns                                     []string
	sortBy                                           string
	// separate puts an empty line before a table, if it has rows.
	separate bool
	// prefix puts the kind before the names in tables, when several resources are
	// shown.
	prefix bool
}

// objectPrinter prints Kubernetes objects as kubectl does.
type objectPrinter struct {
	format  string
	options printOptions
	printer printers.ResourcePrinter
	names   printers.NamePrinter
	columns []metav1.TableColumnDefinition
	// kind is that of a table's objects.
	kind string
	// tabs is kept for a watch: it remembers the columns' widths.
	tabs *tabwriter.Writer
	// list, when it is set, gathers the objects instead of printing them.
	list *unstructured.UnstructuredList
}

func newObjectPrinter(format string, options printOptions) (*objectPrinter, error) {
	result := &objectPrinter{format: format, options: options, names: printers.NamePrinter{ShortOutput: true}}
	made, err := templatePrinter(format, options)
	switch {
	case err != nil:
		return nil, err
	case made != nil:
		result.printer = made
	case format == asJSON:
		result.printer = &printers.JSONPrinter{}
	case format == asYAML:
		result.printer = &printers.YAMLPrinter{}
	case format == asName:
		result.printer = &result.names
	default:
		result.printer = printers.NewTablePrinter(result.tableOptions())
	}
	return result, nil
}

func (printer *objectPrinter) tableOptions() printers.PrintOptions {
	return printers.PrintOptions{
		NoHeaders: printer.options.noHeaders, WithNamespace: printer.options.namespaces, Wide: printer.format == asWide,
		ShowLabels: printer.options.showLabels, ColumnLabels: printer.options.labelColumns,
	}
}

// templatePrinter makes the printer of a format that takes an argument; nil for
// the others.
func templatePrinter(format string, options printOptions) (printers.ResourcePrinter, error) {
	kind, argument, found := strings.Cut(format, "=")
	if !found {
		return nil, nil
	}
	name, isFile := strings.CutSuffix(kind, "-file")
	if isFile {
		text, err := os.ReadFile(argument)
		if err != nil {
			return nil, usagef("-o %s: %v", kind, err)
		}
		kind, argument = name, string(text)
	}
	var made printers.ResourcePrinter
	var err error
	switch kind {
	case "jsonpath":
		if !strings.Contains(argument, "{") {
			argument = "{" + argument + "}"
		}
		var path *printers.JSONPathPrinter
		if path, err = printers.NewJSONPathPrinter(argument); err == nil {
			path.AllowMissingKeys(true)
			made = path
		}
	case "go-template":
		var template *printers.GoTemplatePrinter
		if template, err = printers.NewGoTemplatePrinter([]byte(argument)); err == nil {
			template.AllowMissingKeys(true)
			made = template
		}
	case "custom-columns":
		if isFile { // names in one line, paths in the next
			made, err = get.NewCustomColumnsPrinterFromTemplate(strings.NewReader(argument), unstructured.UnstructuredJSONScheme)
		} else {
			made, err = get.NewCustomColumnsPrinterFromSpec(argument, unstructured.UnstructuredJSONScheme, options.noHeaders)
		}
	}
	if err != nil {
		return nil, usagef("-o %s: %v", kind, err)
	}
	return made, nil
}

func (printer *objectPrinter) isTable() bool {
	return printer.format == asTable || printer.format == asWide
}

// readsColumnsOnly tells whether nothing of a table's objects is shown or sorted by.
func (printer *objectPrinter) readsColumnsOnly() bool {
	o := printer.options
	return printer.isTable() && !o.namespaces && !o.showLabels && len(o.labelColumns) == 0 && o.sortBy == ""
}

// wants is what to ask the server for.
func (printer *objectPrinter) wants() workload.Output {
	if printer.isTable() {
		return workload.Output_OUTPUT_TABLE
	}
	return workload.Output_OUTPUT_OBJECTS
}

// print prints an answer, or the pages of a list, and returns how many objects it
// held.
func (printer *objectPrinter) print(out io.Writer, pages ...[]byte) (int, error) {
	if printer.isTable() {
		return printer.printTable(out, pages)
	}
	object, err := readObjects(pages)
	if err != nil {
		return 0, err
	}
	count := 1
	if meta.IsListType(object) {
		count = meta.LenList(object)
	}
	if !printer.options.managedFields && (printer.format == asJSON || printer.format == asYAML) {
		if err := dropManagedFields(object); err != nil {
			return 0, err
		}
	}
	if by := printer.options.sortBy; by != "" && meta.IsListType(object) {
		items, err := meta.ExtractList(object)
		if err != nil {
			return 0, fmt.Errorf("read the node's answer: %w", err)
		}
		if len(items) > 0 {
			if err := get.NewRuntimeSorter(items, by).Sort(); err != nil {
				return 0, usagef("--sort-by=%s: %v", by, err)
			}
			if err := meta.SetList(object, items); err != nil {
				return 0, fmt.Errorf("sort: %w", err)
			}
		}
	}
	if printer.list != nil {
		return count, printer.add(object)
	}
	return count, printer.printer.PrintObj(object, out)
}

// readObjects reads an object, a list, or the pages of one.
func readObjects(pages [][]byte) (runtime.Object, error) {
	var items []runtime.Object
	for _, text := range pages {
		object, err := runtime.Decode(unstructured.UnstructuredJSONScheme, text)
		if err != nil {
			return nil, fmt.Errorf("read the node's answer: %w", err)
		}
		if len(pages) == 1 {
			return object, nil
		}
		page, err := meta.ExtractList(object)
		if err != nil {
			return nil, fmt.Errorf("read the node's answer: %w", err)
		}
		items = append(items, page...)
	}
	all := newList()
	return all, meta.SetList(all, items)
}

// newList is an empty list as kubectl prints it.
func newList() *unstructured.UnstructuredList {
	return &unstructured.UnstructuredList{Object: map[string]any{
		"apiVersion": "v1", "kind": "List", "metadata": map[string]any{"resourceVersion": ""},
	}}
}

// gather makes the printer put all objects into one list, which finish
// prints: two documents of JSON in a row are not JSON.
func (printer *objectPrinter) gather() {
	printer.list = newList()
}

// add puts an object, or those of a list, into the printer's list.
func (printer *objectPrinter) add(object runtime.Object) error {
	one := func(object runtime.Object) error {
		item, ok := object.(*unstructured.Unstructured)
		if !ok {
			return fmt.Errorf("read the node's answer: a %T in it", object)
		}
		printer.list.Items = append(printer.list.Items, *item)
		return nil
	}
	if meta.IsListType(object) {
		return meta.EachListItem(object, one)
	}
	return one(object)
}

// finishApplied prints what was gathered as kubectl's apply does: one object as it
// is, several as a list.
func (printer *objectPrinter) finishApplied(out io.Writer) error {
	switch len(printer.list.Items) {
	case 0:
		return nil
	case 1:
		return printer.printer.PrintObj(&printer.list.Items[0], out)
	}
	return printer.finish(out)
}

// finish prints what was gathered.
func (printer *objectPrinter) finish(out io.Writer) error {
	if printer.list == nil {
		return nil
	}
	return printer.printer.PrintObj(printer.list, out)
}

func dropManagedFields(object runtime.Object) error {
	drop := func(one runtime.Object) error {
		accessor, err := meta.Accessor(one)
		if err != nil {
			return fmt.Errorf("read the node's answer: %w", err)
		}
		accessor.SetManagedFields(nil)
		return nil
	}
	if meta.IsListType(object) {
		return meta.EachListItem(object, drop)
	}
	return drop(object)
}

// readTable reads a table and makes its rows ready to be printed.
func (printer *objectPrinter) readTable(text []byte) (*metav1.Table, error) {
	table := &metav1.Table{}
	// Numbers are kept as they were written: 1000000 is not to be 1e+06.
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	if err := decoder.Decode(table); err != nil {
		return nil, fmt.Errorf("read the node's answer: %w", err)
	}
	if table.Kind != "Table" {
		return nil, errors.New("read the node's answer: expected a Table")
	}
	// A watch sends the columns once.
	if len(table.ColumnDefinitions) == 0 {
		table.ColumnDefinitions = printer.columns
	}
	printer.columns = table.ColumnDefinitions
	for i := range table.Rows {
		row := &table.Rows[i]
		printer.qualify(table, row)
		if len(row.Object.Raw) == 0 {
			continue
		}
		object, err := runtime.Decode(unstructured.UnstructuredJSONScheme, row.Object.Raw)
		if err != nil {
			return nil, fmt.Errorf("read the node's answer: %w", err)
		}
		row.Object.Object = object
	}
	return table, nil
}

// printTable prints the columns that Kubernetes made.
func (printer *objectPrinter) printTable(out io.Writer, pages [][]byte) (int, error) {
	table := &metav1.Table{}
	for i, text := range pages {
		page, err := printer.readTable(text)
		if err != nil {
			return 0, err
		}
		if i == 0 {
			table = page
			continue
		}
		table.Rows = append(table.Rows, page.Rows...)
	}
	if len(table.Rows) == 0 {
		return 0, nil
	}
	if by := printer.options.sortBy; by != "" {
		if err := get.NewRuntimeSorter([]runtime.Object{table}, by).Sort(); err != nil {
			return 0, usagef("--sort-by=%s: %v", by, err)
		}
	}
	if printer.options.separate {
		fmt.Fprintln(out)
	}
	if printer.tabs == nil {
		printer.tabs = printers.GetNewTabWriter(out)
	}
	if err := printer.printer.PrintObj(table, printer.tabs); err != nil {
		return 0, err
	}
	return len(table.Rows), printer.tabs.Flush()
}

// qualify puts the kind before a row's name.
func (printer *objectPrinter) qualify(table *metav1.Table, row *metav1.TableRow) {
	if !printer.options.prefix {
		return
	}
	for i, column := range table.ColumnDefinitions {
		if i < len(row.Cells) && column.Format == "name" {
			row.Cells[i] = fmt.Sprintf("%s/%v", printer.kind, row.Cells[i])
		}
	}
}
