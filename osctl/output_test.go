package main

import (
	"strings"
	"testing"
	"time"
)

func TestAge(t *testing.T) {
	for duration, want := range map[time.Duration]string{
		-time.Second: "0s", 0: "0s", 119 * time.Second: "119s", 2 * time.Minute: "2m", 119 * time.Minute: "119m",
		2 * time.Hour: "2h", 47 * time.Hour: "47h", 48 * time.Hour: "2d",
	} {
		if got := age(duration); got != want {
			t.Errorf("%s: %s, want %s", duration, got, want)
		}
	}
}

func TestSize(t *testing.T) {
	for bytes, want := range map[uint64]string{
		0: "0 B", 1023: "1023 B", 1024: "1.0 KiB", 10 << 20: "10 MiB", 1536 << 20: "1.5 GiB", 1<<64 - 1: "16 EiB",
	} {
		if got := size(bytes); got != want {
			t.Errorf("%d: %s, want %s", bytes, got, want)
		}
	}
}

func TestColoursDoNotMoveColumns(t *testing.T) {
	var plainOut, colourOut strings.Builder
	for out, colour := range map[*strings.Builder]bool{&plainOut: false, &colourOut: true} {
		table := newTable("NAME", "STATE", "NOTE")
		table.add("größe", cell{"running", green}, "x")
		table.add("a", cell{"stopped", red}, "")
		if err := (&app{stdout: out, colour: colour}).print(table); err != nil {
			t.Fatal(err)
		}
	}
	if want := "NAME    STATE     NOTE\ngröße   running   x\na       stopped\n"; plainOut.String() != want {
		t.Errorf("got\n%s", plainOut.String())
	}
	stripped := colourOut.String()
	for _, code := range []colour{red, green, yellow, faint, "0"} {
		stripped = strings.ReplaceAll(stripped, "\x1b["+string(code)+"m", "")
	}
	if stripped != plainOut.String() || !strings.Contains(colourOut.String(), "\x1b[32mrunning\x1b[0m") {
		t.Errorf("coloured: %q", colourOut.String())
	}
}
