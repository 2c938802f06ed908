package main

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keelson-os/keelson/machined/supervise"
)

func TestLines(t *testing.T) {
	memory := supervise.NewLog(nil)
	var console bytes.Buffer
	log := slog.New(&lineHandler{
		sinceBoot: func() time.Duration { return 12340 * time.Millisecond }, memory: memory, console: &console,
	})
	log.Info("etcd running", "why", "")
	log.With("link", "eth0").WithGroup("dhcp").Warn("no answer", "tries", 3, "error", errors.New("timed out"))
	log.Debug("task ended")
	log.Error("panic", "stack", "goroutine 1\nmain.go:1\n")
	want := `[  12.34] etcd running
[  12.34] warning: no answer link=eth0 dhcp.tries=3 dhcp.error="timed out"
[  12.34] error: panic
stack:
goroutine 1
main.go:1
`
	if diff := cmp.Diff(want, console.String()); diff != "" {
		t.Error(diff)
	}
	var kept []string
	err := memory.Read(t.Context(), -1, false, func(line supervise.Line) error {
		kept = append(kept, string(line.Text))
		return nil
	})
	if all := strings.Join(kept, "\n"); err != nil || !strings.Contains(all, "[  12.34] task ended") || !strings.Contains(all, "main.go:1") {
		t.Errorf("kept %q, %v", all, err)
	}
}

// stuck is a console that takes nothing until it is released.
type stuck struct {
	release chan struct{}
	got     bytes.Buffer
}

func (s *stuck) Write(p []byte) (int, error) {
	<-s.release
	return s.got.Write(p)
}

func TestStuckConsoleHoldsNobodyUp(t *testing.T) {
	out := &stuck{release: make(chan struct{})}
	c := newConsole(out)
	defer c.close()
	for range 2 * consoleQueue {
		if _, err := c.Write([]byte("line\n")); err != nil {
			t.Fatal(err)
		}
	}
	close(out.release)
	c.flush()
	if got := out.got.String(); !strings.Contains(got, "lines were dropped: the console is slow") {
		t.Errorf("nothing says that lines were dropped, in %d bytes", len(got))
	}
}
