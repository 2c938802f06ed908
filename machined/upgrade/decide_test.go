package upgrade

import (
	"fmt"
	"strings"
	"testing"

	"github.com/keelson-os/keelson/machined/host/entries"
	"github.com/keelson-os/keelson/pkg/osdisk"
)

// entry is a short form of a boot entry's name: "2b", "2b+3", "2b+0-3".
func entry(t *testing.T, short string) osdisk.Entry {
	t.Helper()
	name, counter, counted := strings.Cut(short, "+")
	name = fmt.Sprintf("keelson-%s-%s", name[:len(name)-1], name[len(name)-1:])
	if counted {
		name += "+" + counter
	}
	e, ok := osdisk.ParseEntry(name + ".efi")
	if !ok {
		t.Fatalf("%q is no entry", short)
	}
	return e
}

func entriesOf(t *testing.T, list string) (all []osdisk.Entry) {
	for _, short := range strings.Fields(list) {
		all = append(all, entry(t, short))
	}
	return all
}

func TestJudge(t *testing.T) {
	for name, test := range map[string]struct {
		entries string
		booted  osdisk.Slot
		update  *Update // generation 2 in slot b, unless nil
		// What is wanted.
		probation, failed bool
		outcome           Outcome
		attempts          int
		remove            string
		why               string
	}{
		"just installed":                       {entries: "1a", booted: "a"},
		"an update was blessed long ago":       {entries: "1a 2b", booted: "b", update: &Update{Outcome: Good}, outcome: Good},
		"an update boots for the first time":   {entries: "1a 2b+2-1", booted: "b", update: &Update{Outcome: Pending}, probation: true, outcome: Pending, attempts: 1},
		"and for the last":                     {entries: "1a 2b+0-3", booted: "b", update: &Update{Outcome: Pending, Attempts: make([]Attempt, 2)}, probation: true, outcome: Pending, attempts: 3},
		"blessed, and the power cut":           {entries: "1a 2b", booted: "b", update: &Update{Outcome: Pending}, outcome: Good},
		"written, and the power cut":           {entries: "1a 2b+3", booted: "a", update: &Update{Outcome: Pending}, outcome: Pending},
		"noted, and the power cut before that": {entries: "1a", booted: "a", update: &Update{Outcome: Pending}, failed: true, outcome: Failed, why: "entry is gone"},
		"the loader could not load it": {
			entries: "1a 2b+0-3", booted: "a", update: &Update{Outcome: Pending}, failed: true, outcome: Failed, remove: "2b+0-3", why: "in 3 boots it did not get as far"},
		"it panicked later": {
			entries: "1a 2b+0-3", booted: "a", update: &Update{Outcome: Pending, Attempts: []Attempt{{}, {Reached: "storage"}}},
			failed: true, outcome: Failed, attempts: 2, remove: "2b+0-3", why: "end of phase storage, and then panicked or hung"},
		"it was not healthy": {
			entries: "1a 2b+0-3", booted: "a", update: &Update{Outcome: Pending, Attempts: []Attempt{{Reached: Running, Problems: []string{"kubelet: broken"}}}},
			failed: true, outcome: Failed, attempts: 1, remove: "2b+0-3", why: "services started, with: kubelet: broken"},
		"a failure is told of once":              {entries: "1a", booted: "a", update: &Update{Outcome: Failed, Why: "x"}, outcome: Failed, why: "x"},
		"both slots exhausted":                   {entries: "1a+0-3 2b+0-3", booted: "b", update: &Update{Outcome: Pending}, probation: true, outcome: Pending, attempts: 1},
		"a rename that was cut in two":           {entries: "1a 2b 2b+0-3", booted: "b", update: &Update{Outcome: Pending}, outcome: Good},
		"a count that was cut in two":            {entries: "1a 2b+2-1 2b+3", booted: "b", update: &Update{Outcome: Pending}, probation: true, outcome: Pending, attempts: 1},
		"a last count that was cut in two":       {entries: "1a 2b+1-2 2b+0-3", booted: "a", update: &Update{Outcome: Pending}, failed: true, outcome: Failed, remove: "2b+1-2 2b+0-3", why: "in 3 boots"},
		"a rollback's rename that was cut":       {entries: "1a 2b 3a", booted: "a", update: &Update{Outcome: Undone}, outcome: Undone},
		"an entry of another update in the slot": {entries: "1a 7b+3", booted: "a", update: &Update{Outcome: Pending}, failed: true, outcome: Failed, why: "entry is gone"},
		"the other slot was given up": {
			entries: "1a 2b+0-1", booted: "a", update: &Update{Outcome: Good}, failed: true, outcome: Failed, remove: "2b+0-1", why: "its root image on the disk is damaged"},
		"it was given up, and gave the reason": {
			entries: "1a 2b+0-1", booted: "a", update: &Update{Outcome: Pending, Why: "damaged: block 7", Attempts: make([]Attempt, 1)}, failed: true, outcome: Failed, attempts: 1, remove: "2b+0-1", why: "damaged: block 7"},
		"given up, told, and not yet removed": {entries: "1a 2b+0-1", booted: "a", update: &Update{Outcome: Failed, Why: "x"}, outcome: Failed, remove: "2b+0-1", why: "x"},
		"no entry at all":                     {entries: "", booted: "a", update: &Update{Outcome: Good}, outcome: Good},
	} {
		s := state{entries: entriesOf(t, test.entries), booted: test.booted}
		if test.update != nil {
			test.update.Generation, test.update.Slot = 2, osdisk.SlotB
			s.record.Update = test.update
		}
		v := s.judge()
		if v.probation != test.probation || (v.failed != nil) != test.failed {
			t.Errorf("%s: probation %v, failed %+v", name, v.probation, v.failed)
		}
		if got, want := fmt.Sprint(v.remove), fmt.Sprint(entriesOf(t, test.remove)); got != want {
			t.Errorf("%s: remove %s, want %s", name, got, want)
		}
		if u := s.record.Update; u != nil && (u.Outcome != test.outcome || len(u.Attempts) != test.attempts || !strings.Contains(u.Why, test.why)) {
			t.Errorf("%s: %+v", name, u)
		}
	}
}

// Whatever the names say, judging twice is judging once, and what is to be removed
// is never what runs, nor all there is, nor one of two names of a slot's.
func TestJudgeOverAllStates(t *testing.T) {
	var forms []string
	for generation := 1; generation <= 3; generation++ {
		for _, counter := range []string{"", "+3", "+1-2", "+0-3"} {
			for _, slot := range []string{"a", "b"} {
				forms = append(forms, fmt.Sprintf("%d%s%s", generation, slot, counter))
			}
		}
	}
	states := 0
	for i := range forms {
		for j := range forms {
			for k := range forms {
				if i == j || j == k || i == k {
					continue // a folder has no name twice
				}
				for _, booted := range []osdisk.Slot{osdisk.SlotA, osdisk.SlotB} {
					for _, outcome := range []Outcome{"", Pending, Good, Failed, Undone} {
						list := entriesOf(t, forms[i]+" "+forms[j]+" "+forms[k])
						checkState(t, list, booted, outcome)
						states++
					}
				}
			}
		}
	}
	t.Logf("%d states", states)
}

func checkState(t *testing.T, list []osdisk.Entry, booted osdisk.Slot, outcome Outcome) {
	t.Helper()
	s := state{entries: list, booted: booted}
	if outcome != "" {
		s.record.Update = &Update{Generation: 2, Slot: osdisk.SlotB, Outcome: outcome}
	}
	before, hadOwn := entries.Of(s.entries, booted)
	v := s.judge()
	gone := map[osdisk.Entry]bool{}
	for _, e := range v.remove {
		gone[e] = true
		if e == before && hadOwn {
			t.Errorf("%v, booted %s, %s: the running entry goes", list, booted, outcome)
		}
	}
	var left []osdisk.Entry
	for _, e := range list {
		if !gone[e] {
			left = append(left, e)
		} else if n := len(entries.AllOf(s.entries, e.Slot)); n != len(v.remove) {
			t.Errorf("%v, booted %s, %s: of %d names of a slot %d go", list, booted, outcome, n, len(v.remove))
		}
	}
	if len(left) == 0 {
		t.Errorf("%v, booted %s, %s: nothing is left", list, booted, outcome)
	}
	if u := s.record.Update; u != nil {
		switch u.Outcome {
		case Pending, Good, Failed, Undone:
		default:
			t.Errorf("%v: outcome %q", list, u.Outcome)
		}
		if u.Outcome == Failed && outcome == Pending && u.Why == "" {
			t.Errorf("%v: failed, and nobody knows why", list)
		}
	}
	again := state{entries: left, booted: booted, record: s.record}
	if second := again.judge(); len(second.remove) > 0 || second.failed != nil {
		t.Errorf("%v, booted %s, %s: judged again, remove %v, failed %v", list, booted, outcome, second.remove, second.failed)
	}
}

func TestChosen(t *testing.T) {
	for list, want := range map[string]string{
		"1a":               "1a",
		"1a 2b":            "2b",
		"1a 2b+3":          "2b+3",
		"1a 2b+0-3":        "1a",
		"5a 2b+3":          "5a",
		"1a+0-3 2b+0-3":    "2b+0-3",
		"9a 10b":           "10b",
		"1a+0-1 2b+1-2 3a": "3a",
	} {
		if got, ok := entries.Chosen(entriesOf(t, list)); !ok || got != entry(t, want) {
			t.Errorf("of %s %s is chosen", list, got.FileName())
		}
	}
	if _, ok := entries.Chosen(nil); ok {
		t.Error("something is chosen of nothing")
	}
	if got := entries.NextGeneration(entriesOf(t, "9a 10b+3")); got != 11 {
		t.Errorf("the next generation is %d", got)
	}
}

func TestWhatIsNotedIsBounded(t *testing.T) {
	u := &Update{}
	u.note("storage", nil) // no attempt under way
	for range 20 {
		u.beginAttempt()
	}
	var problems []string
	for range 20 {
		problems = append(problems, strings.Repeat("x", 1000))
	}
	u.note("network", problems)
	last := u.Attempts[len(u.Attempts)-1]
	if len(u.Attempts) != maxAttempts || len(last.Problems) != maxProblems || len(last.Problems[0]) > maxProblemLen+len("…") {
		t.Errorf("%d attempts, %d problems of %d bytes", len(u.Attempts), len(last.Problems), len(last.Problems[0]))
	}
}
