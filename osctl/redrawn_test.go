package main

import (
	"fmt"
	"strings"
	"testing"

	"github.com/keelson-os/keelson/pkg/api/workload"
)

func podRow(name, status string) string {
	return fmt.Sprintf(`{"cells":[%q,%q],"object":{"kind":"PartialObjectMetadata","apiVersion":"meta.k8s.io/v1","metadata":{"name":%q,"namespace":"default"}}}`,
		name, status, name)
}

func podTable(rows ...string) []byte {
	return []byte(`{"kind":"Table","apiVersion":"meta.k8s.io/v1","columnDefinitions":[{"name":"Name","type":"string","format":"name"},{"name":"Status","type":"string"}],"rows":[` +
		strings.Join(rows, ",") + `]}`)
}

// screen is what a terminal shows after output with the two sequences that the
// table uses.
func screen(t *testing.T, output string) string {
	t.Helper()
	var lines []string
	for output != "" {
		if rest, found := strings.CutPrefix(output, "\x1b["); found {
			var up int
			if _, err := fmt.Sscanf(rest, "%dA", &up); err != nil || up > len(lines) {
				t.Fatalf("a sequence that goes out of the table: %q", output)
			}
			lines = lines[:len(lines)-up]
			_, output, _ = strings.Cut(rest, "\x1b[J")
			continue
		}
		line, rest, _ := strings.Cut(output, "\n")
		lines, output = append(lines, line), rest
	}
	return strings.Join(lines, "\n")
}

func TestWatchOnATerminalRedraws(t *testing.T) {
	harness, node := newWorkloadHarness(t)
	harness.terminal = true
	node.watch = []*workload.WatchResponse{
		{Type: "ADDED", Json: podTable(podRow("web-0", "Running"), podRow("web-1", "Pending"))},
		{Type: "MODIFIED", Json: podTable(podRow("web-1", "Running"))},
		{Type: "ADDED", Json: podTable(podRow("web-2", "Pending"))},
		{Type: "DELETED", Json: podTable(podRow("web-0", "Terminating"))},
		{Type: "DELETED", Json: podTable(podRow("never-seen", ""))},
	}
	if code := harness.run(t, "get", "pods", "-w"); code != exitOK {
		t.Fatalf("exit code %d: %s", code, harness.err)
	}
	want := "NAME    STATUS\nweb-1   Running\nweb-2   Pending"
	if got := screen(t, harness.out.String()); got != want {
		t.Errorf("the terminal shows\n%s\nwant\n%s", got, want)
	}
}

func TestWatchKeepsToTheTerminal(t *testing.T) {
	harness, _ := newWorkloadHarness(t)
	printer, err := newObjectPrinter(asTable, printOptions{})
	if err != nil {
		t.Fatal(err)
	}
	table := newRedrawnTable(harness.app, printer)
	table.size = func() (int, int) { return 10, 5 }
	rows := []string{podRow("a-name-that-is-long", "Running")}
	for i := range 9 {
		rows = append(rows, podRow(fmt.Sprint("p", i), "Running"))
	}
	if err := table.show(&workload.WatchResponse{Type: "ADDED", Json: podTable(rows...)}); err != nil {
		t.Fatal(err)
	}
	want := "NAME     …\na-name-th…\np0       …\n… and 8 m…"
	if got := screen(t, harness.out.String()); got != want {
		t.Errorf("the terminal shows\n%s\nwant\n%s", got, want)
	}
}
