package qemu

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// fakeQMP serves sessions that say the greeting, then one prepared line (or
// several) after each line they hear.
func fakeQMP(t *testing.T, greeting string, answers ...string) string {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "qmp")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		fmt.Fprintln(conn, greeting)
		lines := bufio.NewScanner(conn)
		for lines.Scan() && len(answers) > 0 {
			fmt.Fprintln(conn, answers[0])
			answers = answers[1:]
		}
		for lines.Scan() { // say nothing more until the client leaves
		}
	}()
	return socket
}

const greeting = `{"QMP": {"version": {}, "capabilities": []}}`

func TestRunState(t *testing.T) {
	socket := fakeQMP(t, greeting,
		`{"return": {}}`,
		`{"event": "STOP", "timestamp": {}}`+"\n"+`{"return": {"status": "paused", "running": false}}`)
	if state, err := RunState(t.Context(), socket); err != nil || state != "paused" {
		t.Errorf("state %q, error %v; want paused", state, err)
	}
}

func TestExecuteErrors(t *testing.T) {
	tests := map[string]struct {
		socket string
		want   string
	}{
		"refused":       {fakeQMP(t, greeting, `{"return": {}}`, `{"error": {"class": "GenericError", "desc": "not now"}}`), "not now"},
		"not QMP":       {fakeQMP(t, `{"hello": 1}`), "does not speak QMP"},
		"not even JSON": {fakeQMP(t, `SSH-2.0`), "read greeting"},
		"nobody there":  {filepath.Join(t.TempDir(), "none"), "no such file"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			if err := Execute(t.Context(), test.socket, "stop", nil); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v, want one with %q", err, test.want)
			}
		})
	}
}

func TestExecuteEndsWithItsContext(t *testing.T) {
	socket := fakeQMP(t, greeting) // never answers
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- Execute(ctx, socket, "stop", nil) }()
	select {
	case err := <-done:
		if err == nil || errors.Is(err, context.Canceled) {
			t.Errorf("error %v, want a failure", err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("Execute outlived its context")
	}
}
