package etcd

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/keelson-os/keelson/machined/supervise"
)

// Between two rounds in which the others are asked; up to half as much again
// is left to chance, so that nodes that start together do not stay in step.
const (
	askFirst = time.Second
	askLast  = 10 * time.Second
)

// gateMessage stands in the supervisor's list while the gate is closed.
const gateMessage = "no etcd data yet: waiting for another control-plane node, or for osctl bootstrap on one if the cluster is new"

// removedMessage says why the gate stays closed.
const removedMessage = "this node's member was removed from the cluster; osctl reset makes it join anew"

// gate lets the service start when there is a cluster to serve, to make, or to
// join.
func (s *Service) gate(ctx context.Context) error {
	defer s.waits(ctx, "")
	s.mu.Lock()
	now, err := read(s.options.DataDir)
	s.mu.Unlock()
	switch {
	case err != nil:
		return err
	case now == removed:
		s.waits(ctx, removedMessage)
		<-ctx.Done()
		return ctx.Err()
	case now != empty:
		return nil
	}
	// A bootstrap does not wait for nodes that are not there.
	asking, cancel := context.WithCancel(ctx)
	defer cancel()
	joined := make(chan struct{})
	go func() {
		s.awaitOthers(asking)
		close(joined)
	}()
	select {
	case <-s.requested:
		cancel()
		<-joined
		return nil
	case <-joined:
		return ctx.Err()
	}
}

// awaitOthers asks the others until one of them can be joined, or ctx ends.
func (s *Service) awaitOthers(ctx context.Context) {
	for pause := askFirst; ctx.Err() == nil; pause = min(2*pause, askLast) {
		reports := s.askOthers(ctx)
		ready, why := canJoin(reports)
		if ready {
			return
		}
		if ctx.Err() != nil {
			return
		}
		s.waits(ctx, why.Error())
		if len(reports) == 0 {
			<-ctx.Done() // nobody to ask: wait to be asked
			return
		}
		timer := time.NewTimer(pause + rand.N(pause/2))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
		}
	}
}

// waits notes what the gate waits for, and says so where it is looked for: in
// the list of services, and on the console when it is news.
func (s *Service) waits(ctx context.Context, what string) {
	if before := s.waiting.Swap(&what); before != nil && *before == what || what == "" {
		return
	}
	supervise.TellWaiting(ctx, what)
	if s.options.Log != nil {
		s.options.Log.Info("etcd waits", "why", what)
	}
}

// Waiting says why this node's member does not start: whom it tried to join and
// what each said, and what to do. It is empty when the member may start.
func (s *Service) Waiting() string { return *s.waiting.Load() }
