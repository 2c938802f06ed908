package main

import (
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
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

func row(node, role, name, detail string) nodeRow {
	return nodeRow{node, role, stage{name: name, detail: detail}}
}

func TestStepsOffATerminalPrintALineForEachChange(t *testing.T) {
	var out strings.Builder
	clock := testNow
	steps := (&app{stderr: &out, now: func() time.Time { return clock }}).newSteps()
	steps.begin("waiting")
	for _, detail := range []string{"storage", "storage", "etcd"} {
		steps.show([]nodeRow{row("ha-1", "control-plane", "booting", detail), row("ha-2", "worker", "off", "")})
		clock = clock.Add(time.Second)
	}
	clock = clock.Add(detailInterval)
	steps.show([]nodeRow{row("ha-1", "control-plane", "booting", "etcd"), row("ha-2", "worker", "starting", "")})
	steps.begin("waiting") // the same step goes on
	steps.done("up")
	if want := "[   0s] waiting\n[   0s]   ha-1 booting: storage\n[   0s]   ha-2 off\n[  18s]   ha-1 booting: etcd\n[  18s]   ha-2 starting\n[  18s] up\n"; out.String() != want {
		t.Errorf("got\n%s", out.String())
	}
}

func TestStepsOnATerminalKeepATableBelow(t *testing.T) {
	var out strings.Builder
	steps := (&app{stderr: &out, live: true, now: func() time.Time { return testNow }}).newSteps()
	steps.begin("waiting")
	steps.show([]nodeRow{row("ha-1", "control-plane", "booting", strings.Repeat("x", 100)), row("ha-10", "worker", "off", "")})
	steps.begin("bootstrapping")
	steps.show([]nodeRow{row("ha-1", "control-plane", "ready", "v1.37.1")})
	steps.done("up")
	steps.end()
	compareGolden(t, "steps-table.txt", screen(out.String()))
}

// screen is what a terminal shows after these bytes, of which only cursor
// movements up and deletions are understood.
func screen(output string) string {
	lines, at, column := [][]rune{nil}, 0, 0
	for output != "" {
		switch {
		case strings.HasPrefix(output, "\x1b[K"): // to the end of the line
			lines[at], output = lines[at][:column], output[3:]
			continue
		case strings.HasPrefix(output, "\x1b[J"): // to the end of the screen
			lines[at] = lines[at][:column]
			lines, output = lines[:at+1], output[3:]
			continue
		case strings.HasPrefix(output, "\x1b["):
			count, rest, _ := strings.Cut(output[2:], "A")
			up, _ := strconv.Atoi(count)
			at, output = at-up, rest
			continue
		}
		char, size := utf8.DecodeRuneInString(output)
		output = output[size:]
		switch char {
		case '\n':
			column = 0
			if at++; at == len(lines) {
				lines = append(lines, nil)
			}
		case '\r':
			column = 0
		default:
			lines[at] = append(lines[at][:column], char)
			column++
		}
	}
	text := make([]string, len(lines))
	for i, line := range lines {
		text[i] = string(line)
	}
	return strings.Join(text, "\n")
}

func TestFit(t *testing.T) {
	if got := fit("größer als die Zeile", 10); got != "größer al…" {
		t.Errorf("got %q", got)
	}
	if got := fit("passt", 10); got != "passt" {
		t.Errorf("got %q", got)
	}
}
