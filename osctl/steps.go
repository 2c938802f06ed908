package main

import (
	"fmt"
	"strings"
	"sync"
	"time"
)

const (
	// redrawInterval is how often a terminal's line shows the time anew.
	redrawInterval = 500 * time.Millisecond
	// detailInterval is how often, off a terminal, a step may say more.
	detailInterval = 15 * time.Second
)

// steps shows what a long command is doing, with the time since its start: a
// line for each step, which a terminal redraws as time passes, and below it a
// table of nodes where there are some.
type steps struct {
	app   *app
	began time.Time

	mu       sync.Mutex
	text     string // the step under way; "" when there is none
	more     string // what it waits for
	lastSaid time.Time
	rows     []nodeRow
	said     map[string]said // by node, off a terminal
	below    int             // lines that the terminal shows below the step's

	stop    chan struct{}
	stopped chan struct{}
	ending  sync.Once
}

func (app *app) newSteps() *steps {
	steps := &steps{app: app, began: app.now(), said: map[string]said{}, stop: make(chan struct{}), stopped: make(chan struct{})}
	go steps.run()
	return steps
}

// run redraws until end is called.
func (steps *steps) run() {
	defer close(steps.stopped)
	if !steps.app.live {
		<-steps.stop
		return
	}
	tick := time.NewTicker(redrawInterval)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			steps.mu.Lock()
			steps.draw()
			steps.mu.Unlock()
		case <-steps.stop:
			return
		}
	}
}

// begin ends the step under way and begins another.
func (steps *steps) begin(text string) {
	steps.mu.Lock()
	defer steps.mu.Unlock()
	if text == steps.text {
		return
	}
	steps.finish(nil)
	steps.text, steps.more = text, ""
	steps.lastSaid = steps.app.now()
	if steps.app.live {
		steps.draw()
		return
	}
	fmt.Fprintf(steps.app.stderr, "%s %s\n", steps.stamp(), text)
}

// detail says more of the step under way: what it waits for. The empty text
// means nothing any more.
func (steps *steps) detail(more string) {
	steps.mu.Lock()
	defer steps.mu.Unlock()
	if more == steps.more {
		return
	}
	now := steps.app.now()
	if steps.app.live {
		steps.more = more
		steps.draw()
	} else if more != "" && now.Sub(steps.lastSaid) >= detailInterval {
		steps.more, steps.lastSaid = more, now
		fmt.Fprintf(steps.app.stderr, "%s   %s\n", steps.stamp(), more)
	}
}

// done ends the last step and says what was reached.
func (steps *steps) done(text string) {
	steps.begin(text)
	steps.end()
}

// end stops the redrawing and leaves the cursor on a new line. It may be
// called again.
func (steps *steps) end() {
	steps.ending.Do(func() {
		close(steps.stop)
		<-steps.stopped
		steps.mu.Lock()
		defer steps.mu.Unlock()
		steps.finish(steps.rows)
	})
}

// finish leaves the step under way on its line, without what it waited for, and
// of the table what is to stay.
func (steps *steps) finish(table []nodeRow) {
	if steps.text != "" && steps.app.live {
		rows := steps.rows
		steps.more, steps.rows = "", table
		steps.draw()
		fmt.Fprintln(steps.app.stderr)
		steps.rows, steps.below = rows, 0
	}
	steps.text = ""
}

// draw writes the terminal's lines over those that it shows; the lock is held.
func (steps *steps) draw() {
	if steps.text == "" {
		return
	}
	line := steps.text
	if steps.more != "" {
		line += ": " + steps.more
	}
	var out strings.Builder
	if steps.below > 0 {
		fmt.Fprintf(&out, "\x1b[%dA", steps.below)
	}
	width := steps.app.width() - 8
	fmt.Fprintf(&out, "\r\x1b[K%s %s", steps.app.paint(faint, steps.stamp()), fit(line, width))
	lines := steps.tableLines(width)
	for _, line := range lines {
		fmt.Fprintf(&out, "\n\x1b[K%s", line)
	}
	if len(lines) < steps.below {
		out.WriteString("\x1b[J") // what is left of a longer table
	}
	steps.below = len(lines)
	fmt.Fprint(steps.app.stderr, out.String())
}

// stamp is the time since the start, in seconds.
func (steps *steps) stamp() string {
	return fmt.Sprintf("[%4ds]", int(steps.app.now().Sub(steps.began).Seconds()))
}

// fit cuts a text to a width: a line that wraps cannot be redrawn.
func fit(text string, width int) string {
	runes := []rune(text)
	if width < 10 || len(runes) <= width {
		return text
	}
	return string(runes[:width-1]) + "…"
}
