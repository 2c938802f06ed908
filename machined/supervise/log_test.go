package supervise

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// texts reads what a log holds.
func texts(t *testing.T, log *Log, tail int) []string {
	t.Helper()
	var got []string
	must(t, log.Read(t.Context(), tail, false, func(line Line) error {
		got = append(got, string(line.Text))
		return nil
	}))
	return got
}

func TestLogSplitsLines(t *testing.T) {
	var mirrored []string
	log := NewLog(func(text []byte) { mirrored = append(mirrored, string(text)) })
	long := strings.Repeat("x", maxLogLine)
	log.consume(strings.NewReader("one\n\n" + long + "yz\nlast, no line end"))
	want := []string{"one", "", long, "yz", "last, no line end"}
	if diff := cmp.Diff(want, texts(t, log, -1)); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(want, mirrored); diff != "" {
		t.Error("mirror:", diff)
	}
	if diff := cmp.Diff(want[3:], texts(t, log, 2)); diff != "" {
		t.Error("tail:", diff)
	}
	if got := texts(t, log, 0); len(got) > 0 {
		t.Errorf("of no lines: %q", got)
	}
}

func TestLogIsBounded(t *testing.T) {
	log := NewLog(nil)
	for i := range 3 * maxLogLines {
		fmt.Fprintf(log, "line %d", i)
	}
	got := texts(t, log, -1)
	if len(got) != maxLogLines || got[len(got)-1] != fmt.Sprintf("line %d", 3*maxLogLines-1) {
		t.Errorf("%d lines kept, the last is %q", len(got), got[len(got)-1])
	}
	big := bytes.Repeat([]byte("x"), maxLogLine)
	for range 3 * maxLogBytes / maxLogLine {
		_, _ = log.Write(big)
	}
	total := 0
	for _, text := range texts(t, log, -1) {
		total += len(text) + lineOverhead
	}
	if total > maxLogBytes || total < maxLogBytes/2 {
		t.Errorf("%d bytes kept, the limit is %d", total, maxLogBytes)
	}
	if cap(log.ring.values) > 4*maxLogLines {
		t.Errorf("the ring grew to %d places", cap(log.ring.values))
	}
}

func TestSlowFollowerIsTold(t *testing.T) {
	ring := NewRing(4, 1<<20, func(int) int { return 1 })
	reader := ring.Reader(-1)
	for i := range 10 {
		ring.Append(func(uint64) int { return i })
	}
	value, missed, err := reader.Next(t.Context(), true)
	if value != 6 || missed != 6 || err != nil {
		t.Errorf("got %d after missing %d, %v; want 6 after missing 6", value, missed, err)
	}

	log := NewLog(nil)
	fmt.Fprintln(log, "first")
	enough := errors.New("enough")
	var got []string
	err = log.Read(t.Context(), -1, true, func(line Line) error {
		got = append(got, string(line.Text))
		if len(got) == 1 { // while this reader is busy, what it reads next goes
			for i := range maxLogLines + 5 {
				fmt.Fprintf(log, "line %d", i)
			}
		}
		if len(got) == 3 {
			return enough
		}
		return nil
	})
	want := []string{"first", "[dropped 5 lines: the reader was too slow]", "line 5"}
	if diff := cmp.Diff(want, got); diff != "" || !errors.Is(err, enough) {
		t.Error(err, diff)
	}
}

func TestFollow(t *testing.T) {
	log := NewLog(nil)
	fmt.Fprintln(log, "first")
	ctx := testContext(t)
	got := make(chan string)
	ended := make(chan error, 1)
	go func() {
		ended <- log.Read(ctx, -1, true, func(line Line) error { got <- string(line.Text); return nil })
	}()
	for _, want := range []string{"first", "second"} {
		if text := <-got; text != want {
			t.Errorf("got %q, want %q", text, want)
		}
		if want == "first" {
			fmt.Fprintln(log, "second")
		}
	}
	log.Close()
	if err := <-ended; err != nil {
		t.Errorf("follow ended with %v after Close", err)
	}
}

func TestFollowEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := NewLog(nil).Read(ctx, 0, true, func(Line) error { return io.EOF })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}
