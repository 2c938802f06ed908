package main

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// conformanceSpecs are the names that the suite of Kubernetes v1.37.1 lists
// with the tag [Conformance].
func conformanceSpecs(t *testing.T) []string {
	t.Helper()
	text, err := os.ReadFile("testdata/specs.txt")
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSpace(string(text)), "\n")
}

func TestGroupsHoldSpecsOfTheSuite(t *testing.T) {
	specs := conformanceSpecs(t)
	count := map[string]int{}
	for _, spec := range specs {
		count[groupOf(spec)]++
	}
	for _, g := range groups {
		if count[g.name] == 0 {
			t.Errorf("group %s matches no spec of the suite", g.name)
		}
	}
	for spec, want := range map[string]string{
		"[sig-node] Pods should be submitted and removed [Conformance] [NodeConformance]":                                     "pods",
		"[sig-network] Services should serve a basic endpoint from pods [Conformance]":                                        "services",
		"[sig-apps] Deployment deployment should support rollover [Conformance]":                                              "deployments",
		"[sig-network] DNS should provide DNS for the cluster [Conformance]":                                                  "dns",
		"[sig-storage] Projected configMap updates should be reflected in volume [Conformance] [NodeConformance]":             "configmap",
		"[sig-node] Secrets should patch a secret [Conformance]":                                                              "secret",
		"[sig-storage] EmptyDir wrapper volumes should not conflict [Conformance]":                                            "emptydir",
		"[sig-cli] Kubectl client Kubectl diff should check if kubectl diff finds a difference for Deployments [Conformance]": "kubectl",
		"[sig-architecture] Conformance Tests should have at least two untainted nodes [Conformance]":                         otherGroup,
	} {
		if !slices.Contains(specs, spec) {
			t.Errorf("the suite has no spec %q", spec)
		}
		if got := groupOf(spec); got != want {
			t.Errorf("groupOf(%q) = %s, expected %s", spec, got, want)
		}
	}
}

func TestExclusionsMatchSpecsOfTheSuite(t *testing.T) {
	specs := conformanceSpecs(t)
	excluded := 0
	for _, spec := range specs {
		if reason := (selection{serial: true}).excludes(spec); reason != "" {
			excluded++
		}
	}
	if excluded == 0 || excluded > 10 {
		t.Errorf("%d of %d conformance specs are excluded", excluded, len(specs))
	}
}

func TestChosenGroups(t *testing.T) {
	chosen, err := chosenGroups("pods, DNS,emptyDir")
	if err != nil || len(chosen) != 3 || chosen[1].name != "dns" {
		t.Errorf("chosenGroups = %v, %v", chosen, err)
	}
	if _, err := chosenGroups("pod"); err == nil || !strings.Contains(err.Error(), "pods") {
		t.Errorf("chosenGroups(pod): %v", err)
	}
}

func TestPlanChoosesAndExcludes(t *testing.T) {
	specs := []string{
		"[sig-node] Pods should be updated [Conformance]",
		"[sig-node] Pods should hum",
		"[sig-node] Pods should fall over [Serial] [Conformance]",
		"[sig-apps] Deployment should run [Conformance]",
		"[sig-node] ImageVolume should succeed with pod and pull policy of Always [Conformance]",
	}
	pods, err := chosenGroups("pods")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		s    selection
		want []string // "+" runs, "-" is excluded
	}{
		{"group", selection{groups: pods}, []string{"+0", "-2"}},
		{"serial", selection{groups: pods, serial: true}, []string{"+0", "+2"}},
		{"every", selection{groups: pods, every: true}, []string{"+0", "+1", "-2"}},
		{"focus adds to groups", selection{groups: pods, focus: regexp.MustCompile("Deployment")}, []string{"+0", "-2", "+3"}},
		{"skip", selection{focus: regexp.MustCompile("Deployment"), skip: regexp.MustCompile("run")}, []string{"-3"}},
		{"no image", selection{focus: regexp.MustCompile("ImageVolume")}, []string{"-4"}},
	} {
		var got []string
		for _, p := range c.s.plan(specs) {
			sign := "+"
			if p.excluded != "" {
				sign = "-"
			}
			got = append(got, sign+string(rune('0'+slices.Index(specs, p.spec))))
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, expected %v", c.name, got, c.want)
		}
	}
}

func TestTodoLeavesOutWhatHasAResult(t *testing.T) {
	all := []planned{{spec: "a"}, {spec: "b"}, {spec: "c [Serial]"}, {spec: "d"}, {spec: "e", excluded: "no image"}, {spec: "f"}}
	outcomes := map[string]outcome{
		"a": {last: result{State: passed}}, "b": {last: result{State: failed}}, "d": {last: result{State: skipped}},
	}
	parallel, serial := todo(all, outcomes, false)
	if !slices.Equal(parallel, []string{"f"}) || !slices.Equal(serial, []string{"c [Serial]"}) {
		t.Errorf("todo = %q, %q", parallel, serial)
	}
	if parallel, _ = todo(all, outcomes, true); !slices.Equal(parallel, []string{"b", "f"}) {
		t.Errorf("todo with -retry = %q", parallel)
	}
}

func TestParseSpecList(t *testing.T) {
	text := "The following spec names can be used with 'ginkgo run --focus/skip':\n" +
		"    test/e2e/auth/a.go:38: [sig-auth] it: works [Conformance]\n    test/e2e/b.go:1: [sig-b] b\n\n"
	if got := parseSpecList(text); !slices.Equal(got, []string{"[sig-auth] it: works [Conformance]", "[sig-b] b"}) {
		t.Errorf("parseSpecList = %q", got)
	}
}
