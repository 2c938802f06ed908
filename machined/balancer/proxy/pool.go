package main

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"time"
)

// upstream is one API server. The pool's lock guards it.
type upstream struct {
	address string
	health  health
	// listed says that new connections may go there. One that is listed no more
	// stays until its last connection has ended: the list may be wrong for a
	// moment, connections that work are not.
	listed bool
	links  map[*link]struct{}
	wake   chan struct{} // ask now
	stop   context.CancelFunc
}

// pool knows the upstreams and keeps asking them.
type pool struct {
	ctx      context.Context // of the asking
	prefer   string
	schedule schedule
	ask      func(ctx context.Context, address string) (state, error)
	log      *slog.Logger

	mu        sync.Mutex
	upstreams map[string]*upstream
	nowhere   bool // the last search for an upstream was in vain
}

func newPool(ctx context.Context, prefer string, schedule schedule, ask func(context.Context, string) (state, error), log *slog.Logger) *pool {
	return &pool{ctx: ctx, prefer: prefer, schedule: schedule, ask: ask, log: log, upstreams: map[string]*upstream{}}
}

// set makes list the upstreams for new connections.
func (p *pool) set(list []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, u := range p.upstreams {
		if u.listed && !slices.Contains(list, u.address) {
			p.log.Info("upstream removed", "upstream", u.address, "connections", len(u.links))
			u.listed = false
			p.forget(u)
		}
	}
	for _, address := range list {
		u, here := p.upstreams[address]
		if !here {
			var ctx context.Context
			u = &upstream{address: address, health: health{state: unknown}, links: map[*link]struct{}{}, wake: make(chan struct{}, 1)}
			ctx, u.stop = context.WithCancel(p.ctx)
			p.upstreams[address] = u
			go p.follow(ctx, u)
		}
		u.listed = true
	}
}

// forget lets an upstream go that nobody needs. The caller holds the lock.
func (p *pool) forget(u *upstream) {
	if !u.listed && len(u.links) == 0 {
		u.stop()
		delete(p.upstreams, u.address)
	}
}

// follow asks an upstream until it is forgotten.
func (p *pool) follow(ctx context.Context, u *upstream) {
	for {
		answer, err := p.ask(ctx, u.address)
		if ctx.Err() != nil {
			return
		}
		pause := time.NewTimer(p.answered(u, answer, err))
		select {
		case <-ctx.Done():
			pause.Stop()
			return
		case <-u.wake:
			pause.Stop()
		case <-pause.C:
		}
	}
}

// answered takes an answer and returns the pause before the next question.
func (p *pool) answered(u *upstream, answer state, err error) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	wasDead := u.health.dead
	p.change(u, u.health.after(answer, now), err)
	if u.health.dead && !wasDead {
		p.log.Warn("upstream is dead", "upstream", u.address, "failures", u.health.failures)
	}
	if u.health.closes(p.otherReady(u), now) && len(u.links) > 0 {
		p.log.Warn("connections closed", "upstream", u.address, "connections", len(u.links))
		for l := range u.links {
			l.close() // its own goroutine detaches it
		}
	}
	pause := p.schedule.next(u.health, rand.Float64())
	if p.spare(u) {
		pause *= spareFactor
	}
	return pause
}

// spareFactor is how much less often a spare upstream is asked.
const spareFactor = 6

// spare tells whether nobody would miss the upstream now: it has no connection,
// and gets none while the preferred one is ready. Each control-plane node would
// else ask all the others all the time, for nothing. The caller holds the lock.
func (p *pool) spare(u *upstream) bool {
	preferred := p.upstreams[p.prefer]
	return preferred != nil && preferred != u && preferred.listed && preferred.health.state == ready && len(u.links) == 0
}

// change sets an upstream's health and tells the log what is new. The caller
// holds the lock.
func (p *pool) change(u *upstream, to health, reason error) {
	from := u.health.state
	u.health = to
	if from == ready && to.state != ready && u.address == p.prefer {
		for _, spare := range p.upstreams {
			if spare != u {
				spare.askNow() // what is known of them may be old
			}
		}
	}
	switch {
	case from == to.state:
	case to.state == ready:
		p.log.Info("upstream is ready", "upstream", u.address)
	default:
		p.log.Warn("upstream is "+to.state.String(), "upstream", u.address, "reason", reason)
	}
}

func (p *pool) otherReady(than *upstream) bool {
	for _, u := range p.upstreams {
		if u != than && u.listed && u.health.state == ready {
			return true
		}
	}
	return false
}

// candidates are the upstreams for a new connection, the best first.
func (p *pool) candidates() []*upstream {
	p.mu.Lock()
	defer p.mu.Unlock()
	var choices []choice
	for _, u := range p.upstreams {
		if u.listed {
			choices = append(choices, choice{
				address: u.address, state: u.health.state, prefer: u.address == p.prefer,
				connections: len(u.links), random: rand.Uint32(),
			})
		}
	}
	var best []*upstream
	for _, address := range order(choices) {
		best = append(best, p.upstreams[address])
	}
	return best
}

// refused takes that a client's connection could not be made.
func (p *pool) refused(u *upstream, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if u.health.state == unreachable {
		return
	}
	p.change(u, u.health.refused(), err)
	u.askNow()
}

func (u *upstream) askNow() {
	select {
	case u.wake <- struct{}{}:
	default: // it will be
	}
}

// stranded takes that a client found no upstream at all.
func (p *pool) stranded(last error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.nowhere {
		p.nowhere = true
		p.log.Error("no upstream takes connections: clients are turned away", "upstreams", len(p.upstreams), "last", last)
	}
}

// attach takes that a client's connection was made, which is one of the
// upstream's until detach. It refuses when the upstream was forgotten meanwhile:
// nobody would see it die.
func (p *pool) attach(u *upstream, l *link) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.upstreams[u.address] != u {
		return false
	}
	if p.spare(u) {
		u.askNow() // from now on it would be missed
	}
	u.links[l] = struct{}{}
	if p.nowhere {
		p.nowhere = false
		p.log.Info("clients are served again", "upstream", u.address)
	}
	if now := u.health.connected(); now != u.health {
		u.health = now // what it is, is found out at once
		u.askNow()
	}
	return true
}

func (p *pool) detach(u *upstream, l *link) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(u.links, l)
	p.forget(u)
}
