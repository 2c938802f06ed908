package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// testDeadline bounds a run of processes that do next to nothing.
const testDeadline = time.Minute

// newTestRunner runs this test's program in place of the suite, see
// actSuite.
func newTestRunner(t *testing.T) (*runner, *bytes.Buffer) {
	t.Helper()
	t.Setenv(actAsSuite, "1")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	out := t.TempDir()
	var printed bytes.Buffer
	return &runner{
		suite: suite{binary: self}, out: out, batchSize: 10, silent: testDeadline, print: &printed,
		journal: openTestJournal(t, filepath.Join(out, "results.jsonl"), false),
		after:   func() error { return nil },
	}, &printed
}

// states are the outcomes in short: "pass1=passed/1" is one attempt.
func states(r *runner, specs ...string) string {
	var list []string
	for _, spec := range specs {
		o, ran := r.journal.get(spec)
		if !ran {
			o.last.State = "-"
		}
		list = append(list, spec+"="+string(o.last.State))
	}
	return strings.Join(list, " ")
}

func TestRunnerKeepsWhatEverySpecBecame(t *testing.T) {
	r, printed := newTestRunner(t)
	if err := r.runAll(t.Context(), []string{"pass1", "fail1", "skip1"}, []string{"pass2"}, 2); err != nil {
		t.Fatal(err)
	}
	if got, want := states(r, "pass1", "fail1", "skip1", "pass2"), "pass1=passed fail1=failed skip1=skipped pass2=passed"; got != want {
		t.Errorf("%s, expected %s", got, want)
	}
	if o, _ := r.journal.get("fail1"); o.last.Message != "no luck" || o.attempts != 1 || o.last.Seconds == 0 {
		t.Errorf("fail1: %+v", o)
	}
	if o, _ := r.journal.get("skip1"); o.last.Message != "needs two nodes" {
		t.Errorf("skip1: %+v", o)
	}
	for _, line := range []string{"4/4", "passed  pass2", "fail1: no luck"} {
		if !strings.Contains(printed.String(), line) {
			t.Errorf("%q was not printed:\n%s", line, printed)
		}
	}
}

func TestRunnerTriesAgainAloneWhatAProcessLost(t *testing.T) {
	r, _ := newTestRunner(t)
	if err := r.runAll(t.Context(), []string{"pass1", "die1", "pass2"}, nil, 1); err != nil {
		t.Fatal(err)
	}
	// pass1 was told before the process died; pass2 ran in a process of its own.
	if got, want := states(r, "pass1", "die1", "pass2"), "pass1=passed die1=- pass2=passed"; got != want {
		t.Errorf("%s, expected %s", got, want)
	}
	if r.tries["die1"] != maxTries {
		t.Errorf("die1 was tried %d times", r.tries["die1"])
	}
}

func TestRunnerInterruptsASpecThatDoesNotEnd(t *testing.T) {
	r, printed := newTestRunner(t)
	r.silent = 2 * time.Second
	if err := r.runAll(t.Context(), []string{"pass1", "hang1", "pass2"}, nil, 1); err != nil {
		t.Fatal(err)
	}
	if got, want := states(r, "pass1", "hang1", "pass2"), "pass1=passed hang1=failed pass2=passed"; got != want {
		t.Errorf("%s, expected %s", got, want)
	}
	if !strings.Contains(printed.String(), errSilent.Error()) {
		t.Errorf("the reason was not printed:\n%s", printed)
	}
}

func TestRunnerEndsWhenTheTimeIsOver(t *testing.T) {
	r, printed := newTestRunner(t)
	ctx, cancel := context.WithCancelCause(t.Context())
	// Cancelled by the first result: then a spec hangs.
	r.print = writerFunc(func(line []byte) (int, error) {
		if bytes.Contains(line, []byte("pass1")) {
			cancel(errTimeOver)
		}
		return printed.Write(line)
	})
	if err := r.runAll(ctx, []string{"pass1", "hang1", "pass2"}, []string{"pass3"}, 1); err != nil {
		t.Fatal(err)
	}
	if got, want := states(r, "pass1", "hang1", "pass2", "pass3"), "pass1=passed hang1=- pass2=- pass3=-"; got != want {
		t.Errorf("%s, expected %s", got, want)
	}
	if !strings.Contains(printed.String(), errTimeOver.Error()) {
		t.Errorf("the reason was not printed:\n%s", printed)
	}
}

func TestRunnerGivesUpWhenTheSuiteDoesNotStart(t *testing.T) {
	r, _ := newTestRunner(t)
	r.suite.binary = filepath.Join(t.TempDir(), "e2e.test")
	err := r.runAll(t.Context(), []string{"pass1"}, nil, 1)
	if !errors.Is(err, os.ErrNotExist) {
		t.Errorf("error %v", err)
	}
	r, _ = newTestRunner(t)
	err = r.runAll(t.Context(), []string{"setup-fails"}, nil, 1)
	if err == nil || !strings.Contains(err.Error(), "no cluster") {
		t.Errorf("error %v", err)
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }
