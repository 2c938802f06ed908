package main

import (
	"fmt"
	"io"
	"sync"
	"time"
)

// progressInterval is how often a long step says that it is alive.
const progressInterval = 10 * time.Second

// progress prints lines with the time since the start in front.
type progress struct {
	began time.Time
	mu    sync.Mutex
	out   io.Writer
}

func newProgress(out io.Writer) *progress {
	return &progress{began: time.Now(), out: out}
}

func (p *progress) say(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	fmt.Fprintf(p.out, "[%4.0fs] %s\n", time.Since(p.began).Seconds(), fmt.Sprintf(format, args...))
}

// watch says every few seconds what state returns, until the returned
// function is called.
func (p *progress) watch(state func() string) (stop func()) {
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		ticker := time.NewTicker(progressInterval)
		defer ticker.Stop()
		for {
			select {
			case <-ticker.C:
				p.say("  %s", state())
			case <-done:
				return
			}
		}
	}()
	return func() {
		close(done)
		<-ended
	}
}
