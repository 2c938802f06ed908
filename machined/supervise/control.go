package supervise

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"
)

// Start makes services wanted. It does not wait for them: WaitHealthy does.
// Starting one that is already wanted changes nothing.
func (s *Supervisor) Start(ctx context.Context, names ...string) error {
	for _, name := range names {
		svc, release, err := s.take(ctx, name)
		if err != nil {
			return err
		}
		err = s.start(svc)
		release()
		if err != nil {
			return err
		}
	}
	return nil
}

// Stop ends a service and keeps it stopped until Start. It returns once the
// service has ended; when ctx ends first, the service is killed.
func (s *Supervisor) Stop(ctx context.Context, name string) error {
	svc, release, err := s.take(ctx, name)
	if err != nil {
		return err
	}
	defer release()
	if svc.spec.Essential {
		return fmt.Errorf("stop %s: %w", name, ErrEssential)
	}
	return s.stop(ctx, svc)
}

// Restart stops a service and starts it again.
func (s *Supervisor) Restart(ctx context.Context, name string) error {
	svc, release, err := s.take(ctx, name)
	if err != nil {
		return err
	}
	defer release()
	if err := s.stop(ctx, svc); err != nil {
		return err
	}
	return s.start(svc)
}

// WaitHealthy waits until all named services are ready at one moment. Its
// error says what the others are doing.
func (s *Supervisor) WaitHealthy(ctx context.Context, names ...string) error {
	return s.waitReady(ctx, names, func(string) {})
}

// StopAll stops every service, those first that nothing depends on, each within
// its StopTimeout, and lets nothing start again. When ctx ends, what still runs
// is killed.
func (s *Supervisor) StopAll(ctx context.Context) error {
	s.mu.Lock()
	s.stopping = true
	levels := s.levels
	s.mu.Unlock()
	var failed []string
	var mu sync.Mutex
	for i := len(levels) - 1; i >= 0; i-- {
		var level sync.WaitGroup
		for _, name := range levels[i] {
			level.Go(func() {
				svc, err := s.find(name)
				if err == nil {
					err = s.stop(ctx, svc)
				}
				if err != nil {
					mu.Lock()
					defer mu.Unlock()
					failed = append(failed, name)
				}
			})
		}
		level.Wait()
	}
	s.cancel()
	if len(failed) > 0 {
		return fmt.Errorf("stop services: %s did not end even when killed", strings.Join(failed, ", "))
	}
	return nil
}

// take finds a service and makes the caller the only one to start, stop or
// replace it.
func (s *Supervisor) take(ctx context.Context, name string) (svc *service, release func(), err error) {
	svc, err = s.find(name)
	if err != nil {
		return nil, nil, err
	}
	control := svc.control
	select {
	case control <- struct{}{}:
	case <-ctx.Done():
		return nil, nil, fmt.Errorf("service %s is being started or stopped by someone else: %w", name, ctx.Err())
	}
	// It may have been replaced meanwhile, by one with the same control.
	svc, err = s.find(name)
	return svc, func() { <-control }, err
}

// start begins a service's life unless it has one.
func (s *Supervisor) start(svc *service) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopping {
		return ErrStopping
	}
	if svc.status.State != Stopped && svc.status.State != Finished {
		return nil
	}
	ctx, cancel := context.WithCancel(s.ctx)
	done := make(chan struct{})
	svc.cancel, svc.done = cancel, done
	s.transition(svc, Waiting, "")
	go func() {
		defer close(done)
		defer cancel()
		task := func(ctx context.Context) error { s.live(ctx, svc); return nil }
		if s.opts.Strict {
			_ = task(ctx)
			return
		}
		_ = Protect(ctx, s.opts.Log, "service "+svc.spec.Name, RestartTask, task)
	}()
	return nil
}

// stop ends a service's life and waits for its end.
func (s *Supervisor) stop(ctx context.Context, svc *service) error {
	s.mu.Lock()
	cancel, done := svc.cancel, svc.done
	s.mu.Unlock()
	if done == nil {
		return nil
	}
	cancel()
	select {
	case <-done:
	case <-ctx.Done():
		s.mu.Lock()
		if svc.process != nil {
			svc.process.kill()
		}
		s.mu.Unlock()
		select {
		case <-done:
		case <-time.After(2 * killWait):
			return fmt.Errorf("stop %s: %w", svc.spec.Name, ctx.Err())
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if svc.stuck != 0 {
		return fmt.Errorf("stop %s: process %d does not end, not even when killed", svc.spec.Name, svc.stuck)
	}
	return nil
}
