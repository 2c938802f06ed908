package main

import (
	"context"
	"fmt"
	"html/template"
	"net/http"
	"os"
	"runtime"
	"strconv"
	"time"
)

const (
	// defaultWork and maxWork are how long a request for work keeps a CPU busy.
	defaultWork = 100 * time.Millisecond
	maxWork     = 5 * time.Second
	// maxWaiting is how many requests for work may wait for a CPU.
	maxWaiting = 64
)

// serve answers requests on port 8080 until the context ends, and then those
// that are under way.
func serve(ctx context.Context, handler http.Handler) error {
	server := &http.Server{Addr: ":8080", Handler: handler, ReadHeaderTimeout: requestTimeout}
	failed := make(chan error, 1)
	go func() { failed <- server.ListenAndServe() }()
	select {
	case err := <-failed:
		return fmt.Errorf("serve on %s: %w", server.Addr, err)
	case <-ctx.Done():
	}
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), requestTimeout)
	defer cancel()
	return server.Shutdown(last)
}

// site is the web server of a version; one that is broken never gets ready.
func site(version string, broken bool) http.Handler {
	if version == "" {
		version = "unknown"
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /", func(w http.ResponseWriter, _ *http.Request) { page(w, version) })
	mux.HandleFunc("GET /ready", func(w http.ResponseWriter, _ *http.Request) {
		if broken {
			http.Error(w, "version "+version+" is broken on purpose; go back: osctl rollout undo", http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ready")
	})
	mux.Handle("GET /work", newWorker())
	return mux
}

var pageTemplate = template.Must(template.New("page").Parse(`<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<title>Keelson</title>
<h1>It works</h1>
<p>This is version {{.Version}}.</p>
<p>This page was served by pod {{.Pod}}.</p>
</html>
`))

// page names the pod that serves it, so that one sees a Service spread
// requests, and the version, so that one sees a rolling update.
func page(w http.ResponseWriter, version string) {
	hostname, err := os.Hostname()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	// An error here is a client that left.
	_ = pageTemplate.Execute(w, struct{ Version, Pod string }{version, hostname})
}

// files serves the files of a folder; "/" is its index.html, or a list.
func files(dir string) http.Handler {
	if dir == "" {
		dir = "."
	}
	return http.FileServer(http.Dir(dir))
}

// worker keeps CPUs busy on request: what a HorizontalPodAutoscaler reacts to.
type worker struct {
	waiting chan struct{} // one element per request, those at work included
	cpus    chan struct{} // one element per request at work
}

func newWorker() *worker {
	cpus := runtime.GOMAXPROCS(0)
	return &worker{waiting: make(chan struct{}, maxWaiting), cpus: make(chan struct{}, cpus)}
}

func (k *worker) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	span := defaultWork
	if asked := r.FormValue("ms"); asked != "" {
		ms, err := strconv.Atoi(asked)
		if err != nil || ms < 1 || time.Duration(ms) > maxWork/time.Millisecond {
			http.Error(w, fmt.Sprintf("ms=%s: give a number from 1 to %d", asked, maxWork.Milliseconds()), http.StatusBadRequest)
			return
		}
		span = time.Duration(ms) * time.Millisecond
	}
	select {
	case k.waiting <- struct{}{}:
		defer func() { <-k.waiting }()
	default:
		http.Error(w, fmt.Sprintf("%d requests for work wait already; try again later", maxWaiting), http.StatusServiceUnavailable)
		return
	}
	select {
	case k.cpus <- struct{}{}:
		defer func() { <-k.cpus }()
	case <-r.Context().Done():
		return
	}
	rounds := burn(r.Context(), span)
	fmt.Fprintf(w, "%d rounds in %s\n", rounds, span)
}

// burn keeps one CPU busy for a time, or until nobody waits for it any more.
func burn(ctx context.Context, span time.Duration) (rounds int) {
	var sink uint64
	for end := time.Now().Add(span); time.Now().Before(end) && ctx.Err() == nil; rounds++ {
		for i := range uint64(10_000) {
			sink = sink*6364136223846793005 + i
		}
	}
	runtime.KeepAlive(sink)
	return rounds
}
