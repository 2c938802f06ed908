package main

import (
	"bytes"
	"flag"
	"os"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write the golden files anew")

func TestSummaryTellsOfEverySpec(t *testing.T) {
	all := []planned{
		{"[sig-node] Pods should be updated [Conformance]", "pods", ""},
		{"[sig-node] Pods should cap back-off [Serial] [Conformance]", "pods", "needs the cluster for itself"},
		{"[sig-node] Pods should be read over websockets [Conformance]", "pods", ""},
		{"[sig-network] Services should serve [Conformance]", "services", ""},
		{"[sig-network] Services should have session affinity [Conformance]", "services", ""},
		{"[sig-apps] Job should run [Conformance]", "jobs", ""},
		{"[sig-architecture] two nodes [Conformance]", otherGroup, ""},
	}
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	outcomes := map[string]outcome{
		all[0].spec:            {result{State: passed, Seconds: 12.4, Run: "0001", Time: at}, 1},
		all[2].spec:            {result{State: passed, Seconds: 3, Run: "0002", Time: at.Add(time.Hour)}, 2},
		all[3].spec:            {result{State: failed, Seconds: 61, Run: "0001", Message: "[FAILED] timed out after 60s: *http.Response"}, 1},
		all[5].spec:            {result{State: skipped, Message: "needs `batch/v9`", Run: "0002"}, 1},
		"of another selection": {result{State: failed}, 1},
	}
	a := about{"v1.37.1", "specs tagged [Conformance] of pods, `Job`"}
	var text bytes.Buffer
	if err := writeSummary(&text, a, all, outcomes); err != nil {
		t.Fatal(err)
	}
	const golden = "testdata/summary.md"
	if *update {
		if err := os.WriteFile(golden, text.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if text.String() != string(want) {
		t.Errorf("summary:\n%s\nexpected:\n%s", text.String(), want)
	}
	for _, p := range all {
		if o := outcomes[p.spec]; (o.last.State != passed || o.attempts > 1) && !strings.Contains(text.String(), p.spec) {
			t.Errorf("the summary does not name %q", p.spec)
		}
	}
}

func TestCountsAddUp(t *testing.T) {
	all := []planned{{spec: "a", group: "g"}, {spec: "b", group: "g", excluded: "x"}, {spec: "c", group: "h"}, {spec: "d", group: "h", excluded: "x"}}
	// An excluded spec with a result, of a run that did not exclude it, counts as run.
	groups, sum := count(all, map[string]outcome{"a": {last: result{State: passed}}, "d": {last: result{State: failed}}})
	if want := (counts{specs: 4, passed: 1, failed: 1, excluded: 1, notRun: 1}); sum != want {
		t.Errorf("sum %+v, expected %+v", sum, want)
	}
	if want := (counts{specs: 2, passed: 1, excluded: 1}); groups["g"] != want {
		t.Errorf("g %+v, expected %+v", groups["g"], want)
	}
}
