package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync/atomic"
	"time"

	"github.com/keelson-os/keelson/machined/supervise"
)

const (
	// consoleQueue is how many lines may wait for a slow serial line.
	consoleQueue = 512
	// flushDeadline bounds what the last lines may hold up.
	flushDeadline = 2 * time.Second
)

// console writes lines to a terminal that may be slow or stuck, without making
// anyone wait: what does not fit its queue is dropped, and counted.
type console struct {
	out     io.Writer
	lines   chan []byte
	flushes chan chan struct{}
	closed  chan struct{}
	dropped atomic.Uint64
}

// newConsole starts the writer, which runs until close.
func newConsole(out io.Writer) *console {
	c := &console{
		out: out, lines: make(chan []byte, consoleQueue),
		flushes: make(chan chan struct{}), closed: make(chan struct{}),
	}
	go c.write()
	return c
}

func (c *console) write() {
	for {
		select {
		case line := <-c.lines:
			c.put(line)
		case done := <-c.flushes:
			for len(c.lines) > 0 {
				c.put(<-c.lines)
			}
			close(done)
		case <-c.closed:
			return
		}
	}
}

func (c *console) put(line []byte) {
	if dropped := c.dropped.Swap(0); dropped > 0 {
		line = fmt.Appendf(line, "[%d lines were dropped: the console is slow]\n", dropped)
	}
	_, _ = c.out.Write(line) // nowhere to report a broken console
}

// Write queues a copy of p.
func (c *console) Write(p []byte) (int, error) {
	select {
	case c.lines <- bytes.Clone(p):
	default:
		c.dropped.Add(1)
	}
	return len(p), nil
}

// close ends the writer; what is still queued is lost.
func (c *console) close() { close(c.closed) }

// flush waits until what was queued is written.
func (c *console) flush() {
	deadline := time.After(flushDeadline)
	done := make(chan struct{})
	select {
	case c.flushes <- done:
	case <-deadline:
		return
	}
	select {
	case <-done:
	case <-deadline:
	}
}

// lineHandler is the one log handler: short lines for people, "[  12.34] text
// key=value", all of them into memory and those that matter on the console.
type lineHandler struct {
	sinceBoot func() time.Duration
	memory    *supervise.Log
	console   io.Writer
	attrs     string
	group     string
}

func (h *lineHandler) Enabled(context.Context, slog.Level) bool { return true }

func (h *lineHandler) Handle(_ context.Context, record slog.Record) error {
	var b strings.Builder
	fmt.Fprintf(&b, "[%7.2f] ", h.sinceBoot().Seconds())
	switch {
	case record.Level >= slog.LevelError:
		b.WriteString("error: ")
	case record.Level >= slog.LevelWarn:
		b.WriteString("warning: ")
	}
	b.WriteString(record.Message)
	b.WriteString(h.attrs)
	record.Attrs(func(attr slog.Attr) bool {
		appendAttr(&b, h.group, attr)
		return true
	})
	b.WriteByte('\n')
	line := []byte(b.String())
	_, _ = h.memory.Write(line)
	if record.Level >= slog.LevelInfo {
		_, _ = h.console.Write(line)
	}
	return nil
}

func (h *lineHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	var b strings.Builder
	for _, attr := range attrs {
		appendAttr(&b, h.group, attr)
	}
	with := *h
	with.attrs += b.String()
	return &with
}

func (h *lineHandler) WithGroup(name string) slog.Handler {
	with := *h
	with.group += name + "."
	return &with
}

// appendAttr writes " key=value"; an empty value is left out, and a text of
// several lines (a stack) goes below.
func appendAttr(b *strings.Builder, group string, attr slog.Attr) {
	value := attr.Value.Resolve()
	text := value.String()
	switch {
	case attr.Key == "" || text == "" || text == "<nil>":
	case strings.Contains(text, "\n"):
		fmt.Fprintf(b, "\n%s%s:\n%s", group, attr.Key, strings.TrimRight(text, "\n"))
	case strings.ContainsAny(text, " \"="):
		fmt.Fprintf(b, " %s%s=%q", group, attr.Key, text)
	default:
		fmt.Fprintf(b, " %s%s=%s", group, attr.Key, text)
	}
}
