package supervise

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"time"
)

// Limits of one service's log. All services together stay well below the
// 40 MiB that PID 1 may use.
const (
	maxLogLines = 8192
	maxLogBytes = 1 << 20
	// maxLogLine is where a longer line is split in two.
	maxLogLine = 8 << 10
	// lineOverhead is what a kept line costs beside its bytes: a time, a slice
	// header, the allocation's slack.
	lineOverhead = 64
)

// Line is one line of a log, without its line end.
type Line struct {
	Time time.Time
	Text []byte
}

// Log is a service's output since the boot, as far as its limits reach.
type Log struct {
	ring   *Ring[Line]
	mirror func(text []byte)
}

// NewLog makes an empty log. mirror, if not nil, also gets every line; it must
// not block, nor keep the bytes.
func NewLog(mirror func(text []byte)) *Log {
	size := func(line Line) int { return len(line.Text) + lineOverhead }
	return &Log{ring: NewRing(maxLogLines, maxLogBytes, size), mirror: mirror}
}

// Write adds complete lines; a last one without a line end counts as complete.
// It never blocks and never fails.
func (l *Log) Write(p []byte) (int, error) {
	for text := range bytes.Lines(p) {
		l.add(bytes.TrimSuffix(text, []byte("\n")))
	}
	return len(p), nil
}

// add keeps a copy of one line, split where it is too long.
func (l *Log) add(text []byte) {
	for {
		part := text[:min(len(text), maxLogLine)]
		text = text[len(part):]
		line := Line{Time: time.Now(), Text: bytes.Clone(part)}
		l.ring.Append(func(uint64) Line { return line })
		if l.mirror != nil {
			l.mirror(part)
		}
		if len(text) == 0 {
			return
		}
	}
}

// consume reads a service's output until its end.
func (l *Log) consume(r io.Reader) {
	lines := bufio.NewReaderSize(r, maxLogLine)
	for {
		text, err := lines.ReadSlice('\n')
		if len(text) > 0 {
			l.add(bytes.TrimSuffix(text, []byte("\n")))
		}
		// A full buffer is a line that is split here.
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			return
		}
	}
}

// Close ends those who follow.
func (l *Log) Close() { l.ring.Close() }

// Read sends the newest tail lines (negative: all that are kept), oldest first, and
// with follow all that come after, until ctx ends or send fails. A reader too
// slow for what is kept gets a line that says how many were dropped.
func (l *Log) Read(ctx context.Context, tail int, follow bool, send func(Line) error) error {
	reader := l.ring.Reader(tail)
	for {
		line, missed, err := reader.Next(ctx, follow)
		if missed > 0 {
			marker := Line{Time: time.Now(), Text: fmt.Appendf(nil, "[dropped %d lines: the reader was too slow]", missed)}
			if err := send(marker); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := send(line); err != nil {
			return err
		}
	}
}
