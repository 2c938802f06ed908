package main

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestGetPrintsThePageThatNamesThePod(t *testing.T) {
	server := httptest.NewServer(site("7", false))
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
	if !strings.Contains(out.String(), "version 7") {
		t.Errorf("the page does not tell its version:\n%s", out.String())
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

func TestOnlyTheBrokenVersionIsNotReady(t *testing.T) {
	for broken, want := range map[bool]int{false: http.StatusOK, true: http.StatusServiceUnavailable} {
		answer := httptest.NewRecorder()
		site("7", broken).ServeHTTP(answer, httptest.NewRequest(http.MethodGet, "/ready", nil))
		if answer.Code != want {
			t.Errorf("broken %t: /ready answers %d, expected %d", broken, answer.Code, want)
		}
	}
}

func TestWorkTakesAsLongAsAsked(t *testing.T) {
	began := time.Now()
	answer := httptest.NewRecorder()
	site("7", false).ServeHTTP(answer, httptest.NewRequest(http.MethodGet, "/work?ms=50", nil))
	if took := time.Since(began); answer.Code != http.StatusOK || took < 50*time.Millisecond {
		t.Errorf("answered %d after %s", answer.Code, took)
	}
	for _, ms := range []string{"0", "-1", "5001", "many", "9223372036854775807"} {
		answer := httptest.NewRecorder()
		site("7", false).ServeHTTP(answer, httptest.NewRequest(http.MethodGet, "/work?ms="+ms, nil))
		if answer.Code != http.StatusBadRequest {
			t.Errorf("ms=%s: answered %d", ms, answer.Code)
		}
	}
}

func TestWorkRefusesWhatWouldWaitTooLong(t *testing.T) {
	k := newWorker()
	for range maxWaiting {
		k.waiting <- struct{}{}
	}
	answer := httptest.NewRecorder()
	k.ServeHTTP(answer, httptest.NewRequest(http.MethodGet, "/work", nil))
	if answer.Code != http.StatusServiceUnavailable {
		t.Errorf("answered %d", answer.Code)
	}
}

func TestLoadCountsAnswersAndFailures(t *testing.T) {
	asked := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if asked++; asked%2 == 0 {
			http.Error(w, "every second one", http.StatusInternalServerError)
		}
	}))
	defer server.Close()
	var out strings.Builder
	if err := run(t.Context(), []string{"load", "-for", "500ms", "-clients", "1", server.URL}, nil, &out); err != nil {
		t.Fatal(err)
	}
	var answers, failures int
	_, counts, _ := strings.Cut(out.String(), "\n")
	if _, err := fmt.Sscanf(counts, "%d answers, %d failures", &answers, &failures); err != nil || answers == 0 || failures == 0 {
		t.Errorf("printed %q (%v)", out.String(), err)
	}
}

func TestLoadThatNobodyAnswersFails(t *testing.T) {
	server := httptest.NewServer(http.NotFoundHandler())
	defer server.Close()
	var out strings.Builder
	err := run(t.Context(), []string{"load", "-for", "100ms", server.URL}, nil, &out)
	if err == nil || !strings.Contains(err.Error(), "404") {
		t.Errorf("error %v", err)
	}
}

func TestLoadIsBounded(t *testing.T) {
	for _, args := range []string{"-for 1h http://x", "-for 0s http://x", "-clients 33 http://x", "-clients 0 http://x", "", "http://x http://y", "-what http://x"} {
		var out strings.Builder
		if err := run(t.Context(), append([]string{"load"}, strings.Fields(args)...), nil, &out); err == nil {
			t.Errorf("load %s: no error; printed %q", args, out.String())
		}
	}
}

func TestFilesServesWhatWriteWrites(t *testing.T) {
	dir := t.TempDir()
	ctx, stop := context.WithCancel(t.Context())
	stop() // after the first line
	if err := run(ctx, []string{"write", filepath.Join(dir, "index.html")}, nil, nil); err != nil {
		t.Fatal(err)
	}
	answer := httptest.NewRecorder()
	files(dir).ServeHTTP(answer, httptest.NewRequest(http.MethodGet, "/", nil))
	if answer.Code != http.StatusOK || !strings.HasPrefix(answer.Body.String(), "line 1,") {
		t.Errorf("answered %d, %q", answer.Code, answer.Body)
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
