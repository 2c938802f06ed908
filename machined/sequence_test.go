package main

import (
	"flag"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write testdata/sequences.golden anew")

// The order of the boot is a promise: a change of it shows in review.
func TestSequences(t *testing.T) {
	var got strings.Builder
	for _, s := range []sequence{bootSequence, maintenanceSequence, shutdownSequence, rebootSequence, resetSequence} {
		got.WriteString(s.outline() + "\n")
	}
	const golden = "testdata/sequences.golden"
	if *update {
		if err := os.WriteFile(golden, []byte(got.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got.String()); diff != "" {
		t.Errorf("run go test -update after a change on purpose:\n%s", diff)
	}
}

// What every sequence must keep to, whatever its order.
func TestSequencesAreComplete(t *testing.T) {
	for _, s := range []sequence{bootSequence, maintenanceSequence, shutdownSequence, rebootSequence, resetSequence} {
		for _, p := range s.phases {
			if p.onFailure == "" || len(p.tasks) == 0 {
				t.Errorf("%s: phase %s has no policy or no tasks", s.name, p.name)
			}
			for _, task := range p.tasks {
				if task.deadline <= 0 || task.onPanic == "" || task.run == nil {
					t.Errorf("%s: task %s has no deadline, no panic policy or nothing to run", s.name, task.name)
				}
			}
		}
	}
}
