package supervise

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"
	"time"
)

// PanicPolicy says what follows a panic in a task of PID 1's own. Whatever it
// is, PID 1 lives on.
type PanicPolicy string

const (
	// FailTask makes the panic the task's error.
	FailTask PanicPolicy = "fail"
	// RestartTask runs the task again, with the services' backoff, until it
	// returns or its context ends.
	RestartTask PanicPolicy = "restart"
	// IgnorePanic takes the task as done: what it does can be missed.
	IgnorePanic PanicPolicy = "ignore"
)

// PanicError is a caught panic.
type PanicError struct {
	Task  string
	Value any
	Stack []byte
}

func (e *PanicError) Error() string {
	return fmt.Sprintf("%s: panic: %v (a bug in Keelson; the stack is in the machined log)", e.Task, e.Value)
}

// Protect runs a task and answers its panic by policy. The panic and its stack
// are logged in any case.
func Protect(ctx context.Context, log *slog.Logger, name string, policy PanicPolicy, task func(context.Context) error) error {
	for failures := 1; ; failures++ {
		err := catch(ctx, name, task)
		caught, ok := err.(*PanicError)
		if !ok {
			return err
		}
		log.Error("panic", "task", name, "policy", string(policy), "value", fmt.Sprint(caught.Value), "stack", string(caught.Stack))
		switch policy {
		case IgnorePanic:
			return nil
		case RestartTask:
			if !pause(ctx, backoff(failures)) {
				return caught
			}
		default:
			return caught
		}
	}
}

// catch runs a task and returns its panic as an error.
func catch(ctx context.Context, name string, task func(context.Context) error) (err error) {
	defer func() {
		if value := recover(); value != nil {
			err = &PanicError{Task: name, Value: value, Stack: debug.Stack()}
		}
	}()
	return task(ctx)
}

// pause waits for d and reports whether the context still runs.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
