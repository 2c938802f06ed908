package main

import (
	"os"
	"strings"
	"testing"
)

// testdata/junit.xml is a report of the suite of v1.37.1, of four specs and
// without most of those that were not asked for.
func TestReadReport(t *testing.T) {
	f, err := os.Open("testdata/junit.xml")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	found, err := readReport(f)
	if err != nil {
		t.Fatal(err)
	}
	for spec, want := range map[string]result{
		"[sig-api-machinery] server version should find the server version [Conformance]":             {State: passed},
		"[sig-node] ConfigMap should run through a ConfigMap lifecycle [Conformance]":                 {State: passed},
		"[sig-architecture] Conformance Tests should have at least two untainted nodes [Conformance]": {State: failed, Message: "[FAILED] Conformance requires at least two nodes"},
		"[sig-network] DNS should provide DNS for the cluster [Provider:gce]":                         {State: skipped, Message: "Only supported for providers [gce] (not skeleton)"},
	} {
		got, ok := found.results[spec]
		if !ok || got.State != want.State || got.Message != want.Message || got.Spec != spec || got.Seconds <= 0 {
			t.Errorf("%s: %+v, expected %+v", spec, got, want)
		}
	}
	if len(found.results) != 4 || found.setup != "" {
		t.Errorf("%d results, setup %q", len(found.results), found.setup)
	}
}

func TestReadReportOfWhatDidNotStart(t *testing.T) {
	found, err := readReport(strings.NewReader(`<testsuites><testsuite>
<testcase name="[SynchronizedBeforeSuite]" status="interrupted" time="60"><error message="">[INTERRUPTED] by the user</error></testcase>
<testcase name="[It] a" status="skipped" time="0"><skipped message="skipped"></skipped></testcase>
</testsuite></testsuites>`))
	if err != nil || len(found.results) != 0 || !strings.Contains(found.setup, "INTERRUPTED") {
		t.Errorf("%+v, %v", found, err)
	}
	if _, err := readReport(strings.NewReader(`<testsuites><testcase name="[It] a"`)); err == nil {
		t.Error("a report that breaks off was read")
	}
}

func TestSummarize(t *testing.T) {
	long := strings.Repeat("é", maxMessage)
	for _, c := range []struct{ text, want string }{
		{"[FAILED] pod ran\nfor   ever\nIn [It] at: x.go:5\n\nFull Stack Trace\n  a()", "[FAILED] pod ran for ever"},
		{"", ""},
		{long, strings.Repeat("é", maxMessage/2) + "…"},
	} {
		if got := summarize(c.text); got != c.want {
			t.Errorf("summarize(%q) = %q, expected %q", c.text, got, c.want)
		}
	}
}
