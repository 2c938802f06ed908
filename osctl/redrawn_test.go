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

func podRows(rows ...string) []byte {
	return []byte(`{"kind":"Table","apiVersion":"meta.k8s.io/v1","columnDefinitions":[{"name":"Name","type":"string","format":"name"},{"name":"Status","type":"string"}],"rows":[` +
		strings.Join(rows, ",") + `]}`)
}

func TestWatchOnATerminalRedraws(t *testing.T) {
	harness, node := newWorkloadHarness(t)
	harness.terminal = true
	node.watch = []*workload.WatchResponse{
		{Type: "ADDED", Json: podRows(podRow("web-0", "Running"), podRow("web-1", "Pending"))},
		{Type: "MODIFIED", Json: podRows(podRow("web-1", "Running"))},
		{Type: "ADDED", Json: podRows(podRow("web-2", "Pending"))},
		{Type: "DELETED", Json: podRows(podRow("web-0", "Terminating"))},
		{Type: "DELETED", Json: podRows(podRow("never-seen", ""))},
	}
	if code := harness.run(t, "get", "pods", "-w"); code != exitOK {
		t.Fatalf("exit code %d: %s", code, harness.err)
	}
	want := "NAME    STATUS\nweb-1   Running\nweb-2   Pending\n"
	if got := screen(harness.out.String()); got != want {
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
	if err := table.show(&workload.WatchResponse{Type: "ADDED", Json: podRows(rows...)}); err != nil {
		t.Fatal(err)
	}
	want := "NAME     …\na-name-th…\np0       …\n… and 8 m…\n"
	if got := screen(harness.out.String()); got != want {
		t.Errorf("the terminal shows\n%s\nwant\n%s", got, want)
	}
}
