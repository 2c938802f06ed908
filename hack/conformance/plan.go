package main

import (
	"regexp"
	"strings"
)

// selection says which specs a run is about.
type selection struct {
	focus  *regexp.Regexp // nil: none by expression
	groups []group
	skip   *regexp.Regexp // nil: none
	// every takes specs that are not tagged [Conformance] too.
	every bool
	// serial takes specs that need the cluster for themselves.
	serial bool
}

// planned is one spec of a run.
type planned struct {
	spec  string
	group string
	// excluded says why it is not run; "" when it is.
	excluded string
}

// serialTags mark specs that disturb others, or the cluster.
var serialTags = regexp.MustCompile(`\[(Serial|Disruptive)\]`)

// plan returns the specs that a selection is about, in the order of specs.
func (s selection) plan(specs []string) []planned {
	var all []planned
	for _, spec := range specs {
		if s.wants(spec) {
			all = append(all, planned{spec, groupOf(spec), s.excludes(spec)})
		}
	}
	return all
}

func (s selection) wants(spec string) bool {
	if !s.every && !strings.Contains(spec, "[Conformance]") {
		return false
	}
	if s.focus != nil && s.focus.MatchString(spec) {
		return true
	}
	for _, g := range s.groups {
		if groupOf(spec) == g.name {
			return true
		}
	}
	return false
}

func (s selection) excludes(spec string) string {
	for _, e := range exclusions {
		if e.match.MatchString(spec) {
			return e.reason
		}
	}
	switch {
	case s.skip != nil && s.skip.MatchString(spec):
		return "left out by -skip " + s.skip.String()
	case !s.serial && serialTags.MatchString(spec):
		return "needs the cluster for itself ([Serial], [Disruptive]): run with -serial"
	}
	return ""
}

// todo parts the planned specs that have no final outcome yet in those that may
// run beside others and those that may not.
func todo(all []planned, outcomes map[string]outcome, again bool) (parallel, serial []string) {
	for _, p := range all {
		if p.excluded != "" {
			continue
		}
		if o, ran := outcomes[p.spec]; ran && (o.last.State != failed || !again) {
			continue
		}
		if serialTags.MatchString(p.spec) {
			serial = append(serial, p.spec)
		} else {
			parallel = append(parallel, p.spec)
		}
	}
	return parallel, serial
}

// parseSpecList reads what "e2e.test --list-tests" prints: four blanks, the
// file and line, a colon, the spec's full name.
func parseSpecList(text string) []string {
	var specs []string
	for line := range strings.Lines(text) {
		rest, indented := strings.CutPrefix(line, "    ")
		if _, spec, ok := strings.Cut(rest, ": "); indented && ok {
			specs = append(specs, strings.TrimSuffix(spec, "\n"))
		}
	}
	return specs
}

// String is the selection in words.
func (s selection) String() string {
	var parts []string
	for _, g := range s.groups {
		parts = append(parts, g.name)
	}
	if s.focus != nil {
		parts = append(parts, "`"+s.focus.String()+"`")
	}
	tag := "specs tagged [Conformance]"
	if s.every {
		tag = "all specs"
	}
	return tag + " of " + strings.Join(parts, ", ")
}
