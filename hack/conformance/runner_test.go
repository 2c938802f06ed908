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

// newTestRunner runs this test's program in place of the suite, see actSuite.
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
		suite: suite{binary: self}, out: out, timeout: time.Minute, print: &printed,
		journal: openTestJournal(t, filepath.Join(out, "results.jsonl"), false),
		after:   func() error { return nil },
	}, &printed
}

// expectStates compares what the journal knows of specs: "pass1=passed", or
// "-" for none.
func expectStates(t *testing.T, r *runner, want string) {
	t.Helper()
	known := r.journal.all()
	var got []string
	for pair := range strings.FieldsSeq(want) {
		spec, _, _ := strings.Cut(pair, "=")
		o, ran := known[spec]
		if !ran {
			o.last.State = "-"
		}
		got = append(got, spec+"="+string(o.last.State))
	}
	if list := strings.Join(got, " "); list != want {
		t.Errorf("%s, expected %s", list, want)
	}
}

func TestRunnerKeepsWhatEverySpecBecame(t *testing.T) {
	r, printed := newTestRunner(t)
	if err := r.runAll(t.Context(), []string{"pass1", "fail1", "skip1"}, []string{"pass2"}, 2); err != nil {
		t.Fatal(err)
	}
	expectStates(t, r, "pass1=passed fail1=failed skip1=skipped pass2=passed")
	known := r.journal.all()
	if o := known["fail1"]; o.last.Message != "no luck" || o.attempts != 1 || o.last.Seconds != 1.5 {
		t.Errorf("fail1: %+v", o)
	}
	if o := known["skip1"]; o.last.Message != "needs two nodes" {
		t.Errorf("skip1: %+v", o)
	}
	// A report is kept where there is something to look up, a log always.
	for spec, kept := range map[string]bool{"pass1": false, "fail1": true} {
		dir := filepath.Join(r.out, runsFolder, known[spec].last.Run)
		if _, err := os.Stat(filepath.Join(dir, "junit_01.xml")); (err == nil) != kept {
			t.Errorf("report of %s: %v", spec, err)
		}
		if log, err := os.ReadFile(filepath.Join(dir, "log")); err != nil || !strings.Contains(string(log), spec) {
			t.Errorf("log of %s: %q, %v", spec, log, err)
		}
	}
	for _, line := range []string{"4/4 passed", "no luck (runs/"} {
		if !strings.Contains(printed.String(), line) {
			t.Errorf("%q was not printed:\n%s", line, printed)
		}
	}
}

func TestRunnerTriesAgainWhatAProcessLost(t *testing.T) {
	r, _ := newTestRunner(t)
	if err := r.runAll(t.Context(), []string{"pass1", "die1", "pass2"}, nil, 1); err != nil {
		t.Fatal(err)
	}
	expectStates(t, r, "pass1=passed die1=- pass2=passed")
	if r.tries["die1"] != maxTries {
		t.Errorf("die1 was tried %d times", r.tries["die1"])
	}
}

func TestRunnerInterruptsASpecThatDoesNotEnd(t *testing.T) {
	r, _ := newTestRunner(t)
	r.timeout = time.Second
	if err := r.runAll(t.Context(), []string{"hang1", "pass1"}, nil, 1); err != nil {
		t.Fatal(err)
	}
	expectStates(t, r, "hang1=failed pass1=passed")
	if o := r.journal.all()["hang1"]; o.last.Message != "did not end within 1s" {
		t.Errorf("hang1: %+v", o)
	}
}

func TestRunnerEndsWhenTheTimeIsOver(t *testing.T) {
	r, _ := newTestRunner(t)
	ctx, cancel := context.WithCancelCause(t.Context())
	r.after = func() error { cancel(errTimeOver); return nil }
	if err := r.runAll(ctx, []string{"pass1", "pass2"}, []string{"pass3"}, 1); err != nil {
		t.Fatal(err)
	}
	expectStates(t, r, "pass1=passed pass2=- pass3=-")

	r, printed := newTestRunner(t)
	ctx, stop := context.WithTimeoutCause(t.Context(), time.Second, errTimeOver)
	defer stop()
	if err := r.runAll(ctx, []string{"hang1", "pass2"}, nil, 1); err != nil {
		t.Fatal(err)
	}
	// What was interrupted for lack of time did not fail.
	expectStates(t, r, "hang1=- pass2=-")
	if !strings.Contains(printed.String(), errTimeOver.Error()) {
		t.Errorf("the reason was not printed:\n%s", printed)
	}
}

func TestRunnerGivesUpWhenTheSuiteDoesNotStart(t *testing.T) {
	r, _ := newTestRunner(t)
	r.suite.binary = filepath.Join(t.TempDir(), "e2e.test")
	if err := r.runAll(t.Context(), []string{"pass1"}, nil, 1); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("error %v", err)
	}
	r, _ = newTestRunner(t)
	if err := r.runAll(t.Context(), []string{"setup-fails1", "pass1"}, nil, 1); err != nil {
		t.Errorf("gave up although another spec ran: %v", err)
	}
	expectStates(t, r, "setup-fails1=- pass1=passed")
	r, _ = newTestRunner(t)
	err := r.runAll(t.Context(), []string{"setup-fails1", "setup-fails2"}, nil, 1)
	if err == nil || !strings.Contains(err.Error(), "no cluster") || r.runs != maxBroken {
		t.Errorf("after %d processes: %v", r.runs, err)
	}
}
