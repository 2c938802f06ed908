// Command sample is the sample workload: a web server of one page. Its image
// holds nothing else, no shell either, so it also brings the few commands that
// are handy in "osctl exec".
package main

import (
	"context"
	"errors"
	"fmt"
	"html/template"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

const usage = `usage: sample-web [COMMAND]
  serve        serve the page on :8080 (the default)
  get URL…     print what each URL answers
  lookup NAME  print the addresses of a name
  tick         print a numbered line every second
  echo         copy standard input to standard output`

// requestTimeout ends a get or a lookup that nobody answers.
const requestTimeout = 10 * time.Second

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "sample-web:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, in io.Reader, out io.Writer) error {
	command, argument := "serve", ""
	if len(args) > 0 {
		command = args[0]
	}
	if len(args) > 1 {
		argument = args[1]
	}
	switch command {
	case "serve":
		return serve(ctx)
	case "get":
		for _, url := range args[1:] {
			if err := get(ctx, url, out); err != nil {
				return err
			}
		}
		return nil
	case "lookup":
		return lookup(ctx, argument, out)
	case "tick":
		return tick(ctx, time.Second, out)
	case "echo":
		_, err := io.Copy(out, in)
		return err
	}
	return errors.New(usage)
}

func serve(ctx context.Context) error {
	server := &http.Server{Addr: ":8080", Handler: http.HandlerFunc(page), ReadHeaderTimeout: requestTimeout}
	failed := make(chan error, 1)
	go func() { failed <- server.ListenAndServe() }()
	select {
	case err := <-failed:
		return fmt.Errorf("serve the page: %w", err)
	case <-ctx.Done():
	}
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), requestTimeout)
	defer cancel()
	return server.Shutdown(last)
}

var pageTemplate = template.Must(template.New("page").Parse(`<!DOCTYPE html>
<title>Keelson</title>
<h1>It works</h1>
<p>This page was served by pod {{.}}.</p>
`))

// page names the pod that serves it, so that one sees a Service spread requests.
func page(w http.ResponseWriter, _ *http.Request) {
	hostname, err := os.Hostname()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	// An error here is a client that left.
	_ = pageTemplate.Execute(w, hostname)
}

func get(ctx context.Context, url string, out io.Writer) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	request.Close = true // the next one may be answered by another pod
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("get %s: %s", url, response.Status)
	}
	_, err = io.Copy(out, response.Body)
	return err
}

func lookup(ctx context.Context, name string, out io.Writer) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	addresses, err := net.DefaultResolver.LookupHost(ctx, name)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(out, strings.Join(addresses, "\n"))
	return err
}

func tick(ctx context.Context, interval time.Duration, out io.Writer) error {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for n := 1; ; n++ {
		if _, err := fmt.Fprintf(out, "tick %d\n", n); err != nil {
			return err
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return nil
		}
	}
}
