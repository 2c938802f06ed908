package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"sigs.k8s.io/yaml"
)

// Formats of -o.
const (
	asTable = "table"
	asJSON  = "json"
	asYAML  = "yaml"
	asName  = "name"
	asWide  = "wide"
)

// outputFlag is -o: one of the allowed formats, or one of the prefixes with
// something after it ("jsonpath=…").
type outputFlag struct {
	value   string
	allowed []string
}

// addOutput gives a command -o with the formats; the first one is the default.
func addOutput(command *cobra.Command, allowed ...string) *outputFlag {
	flag := &outputFlag{value: allowed[0], allowed: allowed}
	command.Flags().VarP(flag, "output", "o", "format: "+strings.Join(allowed, ", "))
	_ = command.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(
		slices.DeleteFunc(slices.Clone(allowed), func(format string) bool { return strings.Contains(format, "=") }),
		cobra.ShellCompDirectiveNoFileComp))
	return flag
}

func (flag *outputFlag) String() string { return flag.value }
func (flag *outputFlag) Type() string   { return "format" }

func (flag *outputFlag) Set(value string) error {
	for _, format := range flag.allowed {
		prefix, _, hasArgument := strings.Cut(format, "=")
		if value == format && !hasArgument || hasArgument && strings.HasPrefix(value, prefix+"=") {
			flag.value = value
			return nil
		}
	}
	return fmt.Errorf("expected one of %s", strings.Join(flag.allowed, ", "))
}

// printMessage prints an answer of the API as JSON or YAML.
func (app *app) printMessage(format string, message proto.Message) error {
	text, err := protojson.MarshalOptions{EmitDefaultValues: true}.Marshal(message)
	if err != nil {
		return fmt.Errorf("encode the answer: %w", err)
	}
	return app.printJSON(format, text)
}

// printValue prints a value with JSON tags as JSON or YAML.
func (app *app) printValue(format string, value any) error {
	text, err := json.Marshal(value)
	if err != nil {
		return fmt.Errorf("encode the answer: %w", err)
	}
	return app.printJSON(format, text)
}

// printStreamed prints one message of a stream, in a form that tells a reader
// where it ends: as JSON on a line of its own, or as a YAML document.
func (app *app) printStreamed(format string, message proto.Message) error {
	text, err := protojson.MarshalOptions{EmitDefaultValues: true}.Marshal(message)
	if err != nil {
		return fmt.Errorf("encode the answer: %w", err)
	}
	return app.printDocument(format, text)
}

func (app *app) printDocument(format string, text []byte) error {
	if format != asYAML {
		return app.printLine(text)
	}
	if _, err := io.WriteString(app.stdout, "---\n"); err != nil {
		return err
	}
	return app.printJSON(format, text)
}

func (app *app) printJSON(format string, text []byte) error {
	if format == asYAML {
		converted, err := yaml.JSONToYAML(text)
		if err != nil {
			return fmt.Errorf("encode the answer as YAML: %w", err)
		}
		_, err = app.stdout.Write(converted)
		return err
	}
	// protojson adds random spaces on purpose; indenting takes them away.
	var indented bytes.Buffer
	if err := json.Indent(&indented, text, "", "  "); err != nil {
		return fmt.Errorf("encode the answer: %w", err)
	}
	_, err := fmt.Fprintln(app.stdout, indented.String())
	return err
}

// printLine prints JSON on one line.
func (app *app) printLine(text []byte) error {
	var compact bytes.Buffer
	if err := json.Compact(&compact, text); err != nil {
		return fmt.Errorf("encode the answer: %w", err)
	}
	_, err := fmt.Fprintln(app.stdout, compact.String())
	return err
}

// Colours, as SGR codes of terminals.
type colour string

const (
	plain  colour = ""
	red    colour = "31"
	green  colour = "32"
	yellow colour = "33"
	faint  colour = "2"
)

// paint colours a text if colours are on.
func (app *app) paint(c colour, text string) string {
	if !app.colour || c == plain || text == "" {
		return text
	}
	return "\x1b[" + string(c) + "m" + text + "\x1b[0m"
}

// cell is one field of a table.
type cell struct {
	text  string
	paint colour
}

// table is aligned by the width of its texts, without their colours.
type table struct{ rows [][]cell }

func newTable(headers ...string) *table {
	table := &table{}
	row := make([]cell, len(headers))
	for i, header := range headers {
		row[i] = cell{header, faint}
	}
	table.rows = append(table.rows, row)
	return table
}

// add appends a row of strings and cells.
func (table *table) add(fields ...any) {
	row := make([]cell, len(fields))
	for i, field := range fields {
		switch field := field.(type) {
		case cell:
			row[i] = field
		default:
			row[i] = cell{text: fmt.Sprint(field)}
		}
	}
	table.rows = append(table.rows, row)
}

// print writes the table; the last column is not padded.
func (app *app) print(table *table) error {
	var widths []int
	for _, row := range table.rows {
		for i, cell := range row {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], utf8.RuneCountInString(cell.text))
		}
	}
	var out strings.Builder
	for _, row := range table.rows {
		// Nothing but colour may follow the last text of a line.
		last := len(row) - 1
		for last > 0 && row[last].text == "" {
			last--
		}
		for i, cell := range row[:last+1] {
			out.WriteString(app.paint(cell.paint, cell.text))
			if i < last {
				out.WriteString(strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell.text)+3))
			}
		}
		out.WriteByte('\n')
	}
	_, err := io.WriteString(app.stdout, out.String())
	return err
}

// age is a duration as people say it: "45s", "12m", "5h", "3d".
func age(duration time.Duration) string {
	switch {
	case duration < 0:
		return "0s"
	case duration < 2*time.Minute:
		return fmt.Sprintf("%ds", int(duration.Seconds()))
	case duration < 2*time.Hour:
		return fmt.Sprintf("%dm", int(duration.Minutes()))
	case duration < 48*time.Hour:
		return fmt.Sprintf("%dh", int(duration.Hours()))
	}
	return fmt.Sprintf("%dd", int(duration.Hours()/24))
}

// size is a number of bytes as people say it: "512 B", "34 MiB".
func size(bytes uint64) string {
	const unit = 1024
	if bytes < unit {
		return fmt.Sprintf("%d B", bytes)
	}
	value, prefix := float64(bytes), -1
	for value >= unit && prefix < len("KMGTPE")-1 {
		value /= unit
		prefix++
	}
	if value < 10 {
		return fmt.Sprintf("%.1f %ciB", value, "KMGTPE"[prefix])
	}
	return fmt.Sprintf("%.0f %ciB", value, "KMGTPE"[prefix])
}

// receiver is the reading side of any stream of the API.
type receiver[T any] interface{ Recv() (T, error) }

// each calls do for every message of a stream until it ends.
func each[T any](stream receiver[T], do func(T) error) error {
	for {
		message, err := stream.Recv()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if err := do(message); err != nil {
			return err
		}
	}
}
