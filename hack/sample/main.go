// Command sample is the sample workload: a web server of one page. Its image
// holds nothing else, no shell either, so it also brings the few commands that
// are handy in "osctl exec".
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

const usage = `usage: sample-web [COMMAND]
  serve        serve the page on :8080 (the default); see below
  files DIR    serve the files of a folder on :8080
  write FILE   write the time to a file every second
  load [-for DURATION] [-clients N] URL
               ask for a URL over and over, then tell how many answers came
  get URL…     print what each URL answers
  lookup NAME  print the addresses of a name
  tick         print a numbered line every second
  echo         copy standard input to standard output

"serve" answers
  /            a page that tells its version (SAMPLE_VERSION) and its pod
  /ready       200, or 503 when SAMPLE_BROKEN is set
  /work?ms=N   after keeping a CPU busy for N milliseconds (100; at most 5000)`

// requestTimeout ends a get or a lookup that nobody answers.
const requestTimeout = 10 * time.Second

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	err := run(ctx, os.Args[1:], os.Stdin, os.Stdout)
	if errors.Is(err, flag.ErrHelp) {
		fmt.Println(usage)
		return
	}
	if err != nil {
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
		return serve(ctx, site(os.Getenv("SAMPLE_VERSION"), os.Getenv("SAMPLE_BROKEN") != ""))
	case "files":
		return serve(ctx, files(argument))
	case "write":
		return write(ctx, time.Second, argument)
	case "load":
		return load(ctx, args[1:], out)
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
	case "help", "-h", "--help":
		return flag.ErrHelp
	}
	return errors.New(usage)
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
	return every(ctx, interval, func(n int) error {
		_, err := fmt.Fprintf(out, "tick %d\n", n)
		return err
	})
}

// write replaces a file every interval, so that a reader never sees half of it.
func write(ctx context.Context, interval time.Duration, file string) error {
	if file == "" {
		return errors.New("write needs a file: sample-web write FILE")
	}
	hostname, err := os.Hostname()
	if err != nil {
		return err
	}
	return every(ctx, interval, func(n int) error {
		text := fmt.Sprintf("line %d, written in pod %s at %s\n", n, hostname, time.Now().UTC().Format(time.TimeOnly))
		if err := os.WriteFile(file+".new", []byte(text), 0o644); err != nil {
			return err
		}
		return os.Rename(file+".new", file)
	})
}

// every calls do with 1, 2, … until the context ends.
func every(ctx context.Context, interval time.Duration, do func(n int) error) error {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for n := 1; ; n++ {
		if err := do(n); err != nil {
			return err
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return nil
		}
	}
}
