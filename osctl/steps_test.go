package main

import (
	"strings"
	"testing"
	"time"
)

func TestStepsOffATerminalPrintALineEach(t *testing.T) {
	var out strings.Builder
	clock := testNow
	steps := (&app{stderr: &out, now: func() time.Time { return clock }}).newSteps()
	steps.begin("one")
	clock = clock.Add(3 * time.Second)
	steps.detail("too early to tell")
	steps.begin("two")
	clock = clock.Add(20 * time.Second)
	steps.detail("etcd")
	steps.detail("etcd")
	steps.done("up")
	steps.end()
	if want := "[   0s] one\n[   3s] two\n[  23s]   etcd\n[  23s] up\n"; out.String() != want {
		t.Errorf("got\n%s", out.String())
	}
}

func TestStepsOnATerminalRedrawOneLine(t *testing.T) {
	var out strings.Builder
	steps := (&app{stderr: &out, live: true, now: func() time.Time { return testNow }}).newSteps()
	steps.begin("one")
	steps.detail("etcd")
	steps.done("up")
	if got := out.String(); strings.Count(got, "\n") != 2 || !strings.Contains(got, "\r\x1b[K[   0s] one: etcd") || !strings.HasSuffix(got, "up\n") {
		t.Errorf("got %q", got)
	}
}

func TestFit(t *testing.T) {
	if got := fit("größer als die Zeile", 10); got != "größer al…" {
		t.Errorf("got %q", got)
	}
	if got := fit("passt", 10); got != "passt" {
		t.Errorf("got %q", got)
	}
}
