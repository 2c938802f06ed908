package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func openTestJournal(t *testing.T, path string, resume bool) *journal {
	t.Helper()
	j, err := openJournal(path, resume)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = j.close() })
	return j
}

func TestJournalKeepsTheLastResultOfEachSpec(t *testing.T) {
	path := filepath.Join(t.TempDir(), "results.jsonl")
	j := openTestJournal(t, path, false)
	for _, r := range []result{
		{Spec: "a", State: passed, Run: "0001", Seconds: 3},
		{Spec: "b", State: failed, Run: "0001", Message: "no page"},
		{Spec: "b", State: passed, Run: "0002"},
	} {
		if err := j.add(r); err != nil {
			t.Fatal(err)
		}
	}
	for name, known := range map[string]map[string]outcome{
		"at once": j.all(), "read again": openTestJournal(t, path, true).all(),
	} {
		if a := known["a"]; a.attempts != 1 || a.last.Seconds != 3 {
			t.Errorf("%s: a = %+v", name, a)
		}
		if b := known["b"]; b.attempts != 2 || b.last.State != passed {
			t.Errorf("%s: b = %+v", name, b)
		}
	}
}

func TestJournalOutlivesATornLine(t *testing.T) {
	path := filepath.Join(t.TempDir(), "results.jsonl")
	torn := `{"spec":"a","state":"passed","run":"0001","time":"2026-01-01T00:00:00Z"}` + "\n" + `{"spec":"b","sta`
	if err := os.WriteFile(path, []byte(torn), 0o600); err != nil {
		t.Fatal(err)
	}
	j := openTestJournal(t, path, true)
	if err := j.add(result{Spec: "c", State: passed, Run: "0002"}); err != nil {
		t.Fatal(err)
	}
	known := openTestJournal(t, path, true).all()
	if len(known) != 2 || known["a"].last.State != passed || known["c"].last.State != passed {
		t.Errorf("read again: %+v", known)
	}
}

func TestJournalOfAnEarlierRunIsNotMixedUp(t *testing.T) {
	path := filepath.Join(t.TempDir(), "results.jsonl")
	if err := openTestJournal(t, path, false).add(result{Spec: "a", State: passed}); err != nil {
		t.Fatal(err)
	}
	if _, err := openJournal(path, false); err == nil || !strings.Contains(err.Error(), "-resume") {
		t.Errorf("opened again without -resume: %v", err)
	}
}
