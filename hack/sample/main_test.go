package main

import (
	"context"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"
)

func TestGetPrintsThePageThatNamesThePod(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(page))
	defer server.Close()
	var out strings.Builder
	if err := run(t.Context(), []string{"get", server.URL}, nil, &out); err != nil {
		t.Fatal(err)
	}
	hostname, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out.String(), "pod "+hostname) {
		t.Errorf("the page does not name %s:\n%s", hostname, out.String())
	}
}

func TestGetFailsOnAnErrorPage(t *testing.T) {
	server := httptest.NewServer(http.NotFoundHandler())
	defer server.Close()
	var out strings.Builder
	if err := run(t.Context(), []string{"get", server.URL}, nil, &out); err == nil {
		t.Errorf("no error; printed %q", out.String())
	}
}

func TestEchoCopiesItsInput(t *testing.T) {
	var out strings.Builder
	if err := run(t.Context(), []string{"echo"}, strings.NewReader("a\nb"), &out); err != nil || out.String() != "a\nb" {
		t.Errorf("echo printed %q, %v", out.String(), err)
	}
}

// stopAfter is a writer that ends a context after some writes.
type stopAfter struct {
	strings.Builder
	left int
	stop context.CancelFunc
}

func (w *stopAfter) Write(p []byte) (int, error) {
	if w.left--; w.left == 0 {
		w.stop()
	}
	return w.Builder.Write(p)
}

func TestTickNumbersItsLines(t *testing.T) {
	ctx, stop := context.WithTimeout(t.Context(), time.Minute)
	defer stop()
	out := &stopAfter{left: 3, stop: stop}
	if err := tick(ctx, time.Millisecond, out); err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(out.String(), "tick 1\ntick 2\ntick 3\n") {
		t.Errorf("printed %q", out.String())
	}
}

func TestUnknownCommandSaysWhichThereAre(t *testing.T) {
	if err := run(t.Context(), []string{"dance"}, nil, nil); err == nil || !strings.Contains(err.Error(), "lookup NAME") {
		t.Errorf("error %v", err)
	}
}
