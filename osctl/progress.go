package main

import (
	"fmt"
	"sync"
	"time"
)

// progress redraws one line while an archive is sent; off a terminal it is
// silent.
type progress struct {
	app   *app
	name  string
	quiet bool

	mutex sync.Mutex
	drawn time.Time
}

func (app *app) newProgress(name string) *progress { return &progress{app: app, name: name} }

// sent draws at most ten times a second. A total of zero is unknown.
func (progress *progress) sent(bytes, total int64) {
	progress.mutex.Lock()
	defer progress.mutex.Unlock()
	if progress.app.now().Sub(progress.drawn) < 100*time.Millisecond {
		return
	}
	of := ""
	if total > 0 {
		of = fmt.Sprintf(" of %s (%d %%)", size(uint64(total)), 100*bytes/total)
	}
	progress.draw(size(uint64(bytes)) + of)
}

// say draws a text.
func (progress *progress) say(text string) {
	progress.mutex.Lock()
	defer progress.mutex.Unlock()
	progress.draw(text)
}

func (progress *progress) draw(text string) {
	if progress.quiet || !progress.app.live {
		return
	}
	progress.drawn = progress.app.now()
	fmt.Fprintf(progress.app.stderr, "\r\x1b[K%s: %s", progress.name, text)
}

// end removes the line, for another to take its place; more may follow.
func (progress *progress) end() {
	progress.mutex.Lock()
	defer progress.mutex.Unlock()
	if !progress.drawn.IsZero() {
		fmt.Fprint(progress.app.stderr, "\r\x1b[K")
		progress.drawn = time.Time{}
	}
}
