package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

const (
	// defaultPollInterval is how often a waiting command asks again.
	defaultPollInterval = 2 * time.Second
	// pollCallTimeout bounds one question: a node on its way up may accept a
	// connection and not answer.
	pollCallTimeout = 30 * time.Second
)

// finalError is one that asking again cannot change.
type finalError struct{ error }

func (err finalError) Unwrap() error { return err.error }

// poll calls done until it is, or ctx ends, each call with a timeout. Errors
// that asking again cannot change end it at once; of the others the last one
// is told when the time is over.
func (app *app) poll(ctx context.Context, done func(context.Context) (bool, error)) error {
	var last error
	for {
		callCtx, cancel := context.WithTimeout(ctx, pollCallTimeout)
		finished, err := done(callCtx)
		cancel()
		switch {
		case err == nil && finished:
			return nil
		case permanent(err):
			return err
		case ctx.Err() == nil && (last == nil || status.Code(err) != codes.DeadlineExceeded):
			// A try that was cut short says less than one before it.
			last = err
		}
		select {
		case <-time.After(app.pollInterval):
		case <-ctx.Done():
			if last != nil {
				return fmt.Errorf("%w; the last try: %w", context.Cause(ctx), last)
			}
			return context.Cause(ctx)
		}
	}
}

// permanent tells whether a call that failed would fail again.
func permanent(err error) bool {
	var final finalError
	if errors.As(err, &final) {
		return true
	}
	switch status.Code(err) {
	case codes.PermissionDenied, codes.Unauthenticated, codes.Unimplemented, codes.InvalidArgument:
		return true
	}
	return false
}
