package supervise

import (
	"fmt"
	"slices"
	"strings"
)

// startLevels sorts services into levels: each depends on, or stops before,
// services of levels before its own only. Inside a level the given order is
// kept. It refuses unknown dependencies and cycles.
func startLevels(specs []Spec) ([][]string, error) {
	known := map[string]bool{}
	for _, spec := range specs {
		if known[spec.Name] {
			return nil, fmt.Errorf("service %s: added twice", spec.Name)
		}
		known[spec.Name] = true
	}
	for _, spec := range specs {
		for _, dep := range before(spec) {
			if !known[dep] {
				return nil, fmt.Errorf("service %s: depends on %s, which does not exist", spec.Name, dep)
			}
		}
	}
	var levels [][]string
	done := map[string]bool{}
	for len(done) < len(specs) {
		var level []string
		for _, spec := range specs {
			missing := func(dep string) bool { return !done[dep] }
			if !done[spec.Name] && !slices.ContainsFunc(before(spec), missing) {
				level = append(level, spec.Name)
			}
		}
		if len(level) == 0 {
			return nil, fmt.Errorf("services depend on each other in a circle: %s", strings.Join(undone(specs, done), ", "))
		}
		for _, name := range level {
			done[name] = true
		}
		levels = append(levels, level)
	}
	return levels, nil
}

// before are the services whose level is before that of spec.
func before(spec Spec) []string { return slices.Concat(spec.DependsOn, spec.StopsBefore) }

func undone(specs []Spec, done map[string]bool) []string {
	var names []string
	for _, spec := range specs {
		if !done[spec.Name] {
			names = append(names, spec.Name)
		}
	}
	return names
}
