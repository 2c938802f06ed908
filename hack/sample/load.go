package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

const (
	defaultLoadTime = time.Minute
	maxLoadTime     = 10 * time.Minute
	defaultClients  = 4
	maxClients      = 32
	// pauseAfterFailure keeps a client from asking a dead server thousands of
	// times a second.
	pauseAfterFailure = 100 * time.Millisecond
)

// get prints what a URL answers.
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

// load has clients ask for a URL, each again when it was answered, until the
// time is up.
func load(ctx context.Context, args []string, out io.Writer) error {
	flags := flag.NewFlagSet("load", flag.ContinueOnError)
	flags.SetOutput(io.Discard) // the error says it all
	span := flags.Duration("for", defaultLoadTime, "")
	clients := flags.Int("clients", defaultClients, "")
	if err := flags.Parse(args); err != nil {
		return fmt.Errorf("load: %w; sample-web help explains its flags", err)
	}
	if *span <= 0 || *span > maxLoadTime {
		return fmt.Errorf("load: -for %s: give a time up to %s", *span, maxLoadTime)
	}
	if *clients < 1 || *clients > maxClients {
		return fmt.Errorf("load: -clients %d: give a number from 1 to %d", *clients, maxClients)
	}
	if flags.NArg() != 1 {
		return errors.New("load: give one URL, after the flags")
	}
	fmt.Fprintf(out, "%d clients ask for %s for %s\n", *clients, flags.Arg(0), *span)
	answered, failed, last := loadFor(ctx, *span, *clients, flags.Arg(0))
	fmt.Fprintf(out, "%d answers, %d failures\n", answered, failed)
	if answered == 0 {
		return fmt.Errorf("load: no answer at all: %w", last)
	}
	return nil
}

func loadFor(ctx context.Context, span time.Duration, clients int, url string) (answered, failed int64, last error) {
	ctx, cancel := context.WithTimeout(ctx, span)
	defer cancel()
	var good, bad atomic.Int64
	var mu sync.Mutex // for last
	var running sync.WaitGroup
	for range clients {
		running.Go(func() {
			for ctx.Err() == nil {
				err := get(ctx, url, io.Discard)
				switch {
				case err == nil:
					good.Add(1)
				case ctx.Err() == nil: // the end is no failure
					bad.Add(1)
					mu.Lock()
					last = err
					mu.Unlock()
					select {
					case <-time.After(pauseAfterFailure):
					case <-ctx.Done():
					}
				}
			}
		})
	}
	running.Wait()
	if last == nil {
		last = context.Cause(ctx)
	}
	return good.Load(), bad.Load(), last
}
