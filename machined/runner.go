package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/keelson-os/keelson/machined/api"
	"github.com/keelson-os/keelson/machined/supervise"
)

// sequence is a named table of phases, run from top to bottom.
type sequence struct {
	name   string
	phases []phase
}

// phase is a named set of tasks that run at the same time.
type phase struct {
	name      string
	onFailure failurePolicy
	tasks     []task
}

// task is one thing to do. Its function must return soon after its context
// ends, which it does after the deadline. One in a phase that is not tried again
// is left behind when it does not: a call that hangs in the kernel (a dead disk)
// must not keep the node from booting, nor from going down.
type task struct {
	name     string
	deadline time.Duration
	onPanic  supervise.PanicPolicy
	run      func(*node, context.Context) error
}

// failurePolicy says what follows a phase of which a task failed. The problem is
// on the console and in the node's status in any case.
type failurePolicy string

const (
	// goOn: the next phase runs.
	goOn failurePolicy = "go on"
	// retry: the tasks that failed run again after a growing delay, until they
	// succeed or a stop is requested.
	retry failurePolicy = "retry"
	// giveUp: the sequence ends with the error.
	giveUp failurePolicy = "give up"
)

// Delays before a failed phase is tried again.
const (
	retryFirst = 2 * time.Second
	retryMax   = time.Minute
)

// overtime is what a task may take to return once its context has ended.
const overtime = 15 * time.Second

// retryDelay doubles from retryFirst to retryMax.
func retryDelay(failures int) time.Duration {
	delay := retryFirst
	for range failures - 1 {
		if delay *= 2; delay >= retryMax {
			return retryMax
		}
	}
	return delay
}

// run goes through a sequence. Its error is that of a phase that gives up, or
// the end of ctx.
func (n *node) run(ctx context.Context, s sequence) error {
	for _, p := range s.phases {
		n.setPhase(p.name)
		if err := n.runPhase(ctx, p); err != nil {
			return fmt.Errorf("%s: phase %s: %w", s.name, p.name, err)
		}
	}
	n.setPhase("")
	return nil
}

// runPhase runs a phase as often as its policy asks for.
func (n *node) runPhase(ctx context.Context, p phase) error {
	began := n.os.SinceBoot()
	n.events.Publish(api.KindPhase, p.name, "started", "")
	todo := p.tasks
	for failures := 1; ; failures++ {
		failed, err := n.runTasks(ctx, todo, p.onFailure)
		if err == nil {
			n.solved(p.name)
			took := (n.os.SinceBoot() - began).Round(10 * time.Millisecond)
			n.log.Info(fmt.Sprintf("phase %s done in %.1fs", p.name, took.Seconds()))
			n.events.Publish(api.KindPhase, p.name, "done", "in "+took.String())
			n.noteBoot(p.name)
			return nil
		}
		if ctx.Err() != nil && p.onFailure != goOn {
			return ctx.Err()
		}
		n.problem(p.name, err)
		n.events.Publish(api.KindPhase, p.name, "failed", err.Error())
		var refused *configError
		switch {
		case p.onFailure == goOn:
			return nil
		case p.onFailure == giveUp, errors.As(err, &refused): // trying again does not mend a config
			return err
		}
		delay := retryDelay(failures)
		n.log.Info(fmt.Sprintf("phase %s is tried again in %s", p.name, delay))
		select {
		case <-time.After(delay):
			todo = failed
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// runTasks runs tasks at the same time and returns those that failed.
func (n *node) runTasks(ctx context.Context, tasks []task, onFailure failurePolicy) (failed []task, err error) {
	results := make([]chan error, len(tasks))
	for i, t := range tasks {
		results[i] = make(chan error, 1)
		go func() { results[i] <- n.runTask(ctx, t, onFailure) }()
	}
	var errs []error
	for i, t := range tasks {
		err := <-results[i]
		if err != nil && len(tasks) > 1 {
			err = fmt.Errorf("%s: %w", t.name, err)
		}
		if err != nil {
			failed = append(failed, t)
			errs = append(errs, err)
		}
	}
	return failed, errors.Join(errs...)
}

func (n *node) runTask(ctx context.Context, t task, onFailure failurePolicy) error {
	ctx, cancel := context.WithTimeout(ctx, t.deadline)
	defer cancel()
	began := n.os.SinceBoot()
	ended := make(chan error, 1)
	go func() {
		ended <- supervise.Protect(ctx, n.log, t.name, t.onPanic, func(ctx context.Context) error { return t.run(n, ctx) })
	}()
	var err error
	select {
	case err = <-ended:
	case <-ctx.Done():
		var leave <-chan time.Time // never: a second run beside the first would do harm
		if onFailure != retry {
			leave = time.After(overtime)
		}
		select {
		case err = <-ended:
		case <-leave:
			err = fmt.Errorf("%s hangs, %s after it should have ended; it is not waited for any more", t.name, overtime)
		}
	}
	n.log.Debug("task ended", "task", t.name, "took", n.os.SinceBoot()-began, "error", err)
	return err
}

// outline prints a sequence as its table: what the golden test pins.
func (s sequence) outline() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n", s.name)
	for _, p := range s.phases {
		fmt.Fprintf(&b, "  %-12s on failure: %s\n", p.name, p.onFailure)
		for _, t := range p.tasks {
			fmt.Fprintf(&b, "    %-28s within %-6s on panic: %s\n", t.name, t.deadline, t.onPanic)
		}
	}
	return b.String()
}
