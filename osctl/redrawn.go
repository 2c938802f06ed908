package main

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"strings"

	"golang.org/x/term"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	apiwatch "k8s.io/apimachinery/pkg/watch"
	"k8s.io/cli-runtime/pkg/printers"

	"github.com/keelson-os/keelson/pkg/api/workload"
)

// redrawnTable is a watch on a terminal: one table that is kept up to date in
// its place. Off a terminal every change is a line of its own.
type redrawnTable struct {
	app     *app
	printer *objectPrinter
	table   metav1.Table
	// keys tell the rows apart: namespace and name.
	keys []string
	// drawn is how many lines of the terminal the table takes now.
	drawn int
	// size is that of the terminal, in characters.
	size func() (width, height int)
}

func newRedrawnTable(app *app, printer *objectPrinter) *redrawnTable {
	return &redrawnTable{app: app, printer: printer, size: terminalSize}
}

func terminalSize() (width, height int) {
	if width, height, err := term.GetSize(int(os.Stdout.Fd())); err == nil {
		return width, height
	}
	return 80, 24
}

// show takes one change and draws the table anew.
func (r *redrawnTable) show(change *workload.WatchResponse) error {
	r.printer.kind = change.GetKind()
	changed, err := r.printer.readTable(change.GetJson())
	if err != nil {
		return err
	}
	r.table.ColumnDefinitions = changed.ColumnDefinitions
	for _, row := range changed.Rows {
		r.merge(apiwatch.EventType(change.GetType()), row)
	}
	return r.draw()
}

func (r *redrawnTable) merge(kind apiwatch.EventType, row metav1.TableRow) {
	key := rowKey(row)
	at := slices.Index(r.keys, key)
	switch {
	case kind == apiwatch.Deleted && at >= 0:
		r.keys = slices.Delete(r.keys, at, at+1)
		r.table.Rows = slices.Delete(r.table.Rows, at, at+1)
	case kind == apiwatch.Deleted:
	case at >= 0:
		r.table.Rows[at] = row
	default:
		r.keys = append(r.keys, key)
		r.table.Rows = append(r.table.Rows, row)
	}
}

func rowKey(row metav1.TableRow) string {
	if object, ok := row.Object.Object.(metav1.Object); ok {
		return object.GetNamespace() + "/" + object.GetName()
	}
	if len(row.Cells) > 0 {
		return fmt.Sprint(row.Cells[0])
	}
	return ""
}

func (r *redrawnTable) draw() error {
	var text bytes.Buffer
	if len(r.table.Rows) > 0 {
		table := r.table.DeepCopy() // columns of labels are added to what is printed
		printer := printers.NewTablePrinter(r.printer.tableOptions())
		tabs := printers.GetNewTabWriter(&text)
		if err := printer.PrintObj(table, tabs); err != nil {
			return err
		}
		if err := tabs.Flush(); err != nil {
			return err
		}
	}
	width, height := r.size()
	lines := strings.SplitAfter(text.String(), "\n")
	lines = lines[:len(lines)-1] // what follows the last newline
	if most := max(height-2, 2); len(lines) > most {
		left := len(lines) - most
		lines = append(lines[:most:most], fmt.Sprintf("… and %d more\n", left))
	}
	var out strings.Builder
	if r.drawn > 0 {
		fmt.Fprintf(&out, "\x1b[%dA\x1b[J", r.drawn) // up to the table's begin, and erase from there
	}
	for _, line := range lines {
		out.WriteString(fit(strings.TrimSuffix(line, "\n"), width) + "\n")
	}
	r.drawn = len(lines)
	_, err := fmt.Fprint(r.app.stdout, out.String())
	return err
}
