package supervise

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
)

// errRequested is why a service stops that did nothing wrong.
var errRequested = errors.New("on request")

// live is one service's life from start to stop: runs, with a growing delay
// after each that ended by itself. It has its own goroutine.
func (s *Supervisor) live(ctx context.Context, svc *service) {
	failures := 0
	for {
		began := time.Now()
		outcome := s.runOnce(ctx, svc)
		if ctx.Err() != nil {
			s.enter(svc, Stopped, errRequested.Error())
			return
		}
		if outcome == nil {
			s.enter(svc, Finished, "")
			return
		}
		failures = countFailure(failures, time.Since(began))
		delay := backoff(failures)
		s.enter(svc, Backoff, fmt.Sprintf("%v; starting again in %s", outcome, delay))
		if !pause(ctx, delay) {
			s.enter(svc, Stopped, errRequested.Error())
			return
		}
		s.enter(svc, Waiting, "")
	}
}

// runOnce takes a service from waiting to the end of its process. nil means
// that a oneshot finished; other errors are for people.
func (s *Supervisor) runOnce(ctx context.Context, svc *service) error {
	if err := s.waitToStart(ctx, svc); err != nil {
		return err
	}
	s.enter(svc, Starting, "")
	if svc.spec.Prepare != nil {
		if err := catch(ctx, svc.spec.Name+" prepare", svc.spec.Prepare); err != nil {
			return fmt.Errorf("prepare: %w", err)
		}
	}
	p, err := s.launch(svc)
	if err != nil {
		return err
	}
	defer p.kill() // nothing is left to kill unless this goroutine panics
	defer s.note(svc, nil)
	s.note(svc, p)
	fmt.Fprintf(svc.log, "[started, process %d]", p.pid())

	checks, stopChecks := context.WithCancel(ctx)
	defer stopChecks()
	unhealthy := make(chan error, 1)
	go func() {
		unhealthy <- Protect(checks, s.opts.Log, svc.spec.Name+" watch", FailTask,
			func(ctx context.Context) error { return s.watch(ctx, svc) })
	}()
	select {
	case <-p.ended:
		message := exitMessage(p.err)
		fmt.Fprintf(svc.log, "[%s]", message)
		if svc.spec.Oneshot && p.err == nil {
			return nil
		}
		return errors.New(message)
	case err := <-unhealthy:
		if err == nil { // the context ended
			err = errRequested
		}
		s.end(svc, p, err)
		return err
	case <-ctx.Done():
		s.end(svc, p, errRequested)
		return errRequested
	}
}

// waitToStart waits for the dependencies, then for the gate.
func (s *Supervisor) waitToStart(ctx context.Context, svc *service) error {
	tell := func(message string) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.setMessage(svc, message)
	}
	if err := s.waitReady(ctx, svc.spec.DependsOn, tell); err != nil {
		return err
	}
	if svc.spec.Gate == nil {
		return nil
	}
	tell(svc.spec.GateMessage)
	told := context.WithValue(ctx, tellKey{}, tell)
	if err := catch(told, svc.spec.Name+" gate", svc.spec.Gate); err != nil {
		return fmt.Errorf("%s: %w", svc.spec.GateMessage, err)
	}
	return nil
}

// tellKey is under which a gate's context holds how to change its message.
type tellKey struct{}

// TellWaiting says, of a gate by its context, what it waits for now, in place of
// its service's GateMessage.
func TellWaiting(ctx context.Context, message string) {
	if tell, ok := ctx.Value(tellKey{}).(func(string)); ok {
		tell(message)
	}
}

// waitReady waits until all named services are ready, and tells what it waits
// for whenever that changes.
func (s *Supervisor) waitReady(ctx context.Context, names []string, tell func(string)) error {
	for {
		s.mu.Lock()
		waits, err := s.notReady(names)
		changed := s.changed
		s.mu.Unlock()
		if err != nil || len(waits) == 0 {
			return err
		}
		message := "waiting for " + strings.Join(waits, ", ")
		tell(message)
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("%s: %w", message, ctx.Err())
		}
	}
}

// notReady says who of the named is not ready, and why. The lock is held.
func (s *Supervisor) notReady(names []string) ([]string, error) {
	var waits []string
	for _, name := range names {
		svc, ok := s.services[name]
		if !ok {
			return nil, s.unknown(name)
		}
		if !svc.status.Ready() {
			waits = append(waits, fmt.Sprintf("%s (%s)", name, svc.status.State))
		}
	}
	return waits, nil
}

func (s *Supervisor) launch(svc *service) (*process, error) {
	s.starts.Lock()
	defer s.starts.Unlock()
	return startProcess(svc.spec, launch{
		user: svc.user, cgroup: svc.cgroup, output: svc.log,
		reaper: s.opts.Reaper, log: s.opts.Log, ids: !s.opts.KeepIdentity,
	})
}

// end stops a process that runs.
func (s *Supervisor) end(svc *service, p *process, why error) {
	s.enter(svc, Stopping, why.Error())
	// Not the service's context: it has ended. StopTimeout and killWait bound it.
	if p.stop(context.Background()) {
		fmt.Fprintf(svc.log, "[stopped: %s]", exitMessage(p.err))
		return
	}
	s.mu.Lock()
	svc.stuck = p.pid()
	s.mu.Unlock()
	fmt.Fprintf(svc.log, "[process %d does not end, not even when killed]", p.pid())
}

// note records the running process.
func (s *Supervisor) note(svc *service, p *process) {
	s.mu.Lock()
	defer s.mu.Unlock()
	svc.process = p
	if p != nil {
		svc.stuck = 0
		svc.status.PID = p.pid()
	}
}

func (s *Supervisor) enter(svc *service, to State, message string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.transition(svc, to, message)
}
