package main

import "time"

// state is what is known of an upstream, from the worst to the best.
type state int

const (
	// unreachable: nobody takes connections there.
	unreachable state = iota
	// silent: connections are taken, but no API server answers on them.
	silent
	// unknown: it was not asked yet.
	unknown
	// answering: an API server that says it is not ready. On a cluster's first
	// boot it can do much for half a minute before it is.
	answering
	// ready: an API server that says so.
	ready
)

func (s state) String() string {
	return [...]string{"unreachable", "silent", "unknown", "not ready", "ready"}[s]
}

const (
	// deadAfter failures in a row, an upstream that takes no connection either is
	// dead: a machine without power does not close its connections, and a watch
	// on one would wait for minutes.
	deadAfter = 3
	// lameAfter is when connections leave an upstream that takes them but is not
	// ready, provided that another one is. An election of etcd's leader takes
	// every API server's readiness for some seconds, and each of them has it back
	// at a moment of its own.
	lameAfter = 15 * time.Second
)

// health is what a row of questions to an upstream led to.
type health struct {
	state    state
	failures int       // answers in a row that were not ready
	since    time.Time // of the first of those
	dead     bool
}

// after takes the answer to one question.
func (h health) after(answer state, now time.Time) health {
	if answer == ready {
		return health{state: ready}
	}
	if h.failures == 0 {
		h.since = now
	}
	h.state = answer
	h.failures++
	h.dead = answer == unreachable && h.failures >= deadAfter
	return h
}

// refused takes that a client's connection could not be made. It does not count
// for death: many clients at once would make a moment's loss look like it.
func (h health) refused() health {
	h.state = unreachable
	return h
}

// connected takes that a client's connection was made.
func (h health) connected() health {
	if h.state == unreachable {
		h.state = silent
		h.dead = false
	}
	return h
}

// closes tells whether the upstream's connections shall end, so that clients
// make new ones elsewhere.
func (h health) closes(otherReady bool, now time.Time) bool {
	return h.dead || (h.failures >= deadAfter && otherReady && now.Sub(h.since) >= lameAfter)
}

// schedule is how often an upstream is asked.
type schedule struct {
	ready time.Duration // between two questions while it is ready
}

// An upstream that was ready is asked again after firstRetry, and from then on
// more and more seldom, but not less often than after lastRetry: it may come
// back any moment. One that is ready is asked seldom: each question makes its
// API server ask etcd for a quorum, and every node asks every API server.
const (
	firstRetry = 500 * time.Millisecond
	lastRetry  = 5 * time.Second
)

// next is the pause before the next question. Random, in [0, 1), spreads what
// many nodes ask of one API server, by a tenth around the mean.
func (s schedule) next(h health, random float64) time.Duration {
	pause := s.ready
	if h.failures > 0 {
		longest := min(lastRetry, s.ready)
		pause = min(firstRetry, longest)
		for range h.failures - 1 {
			if pause += pause / 2; pause >= longest {
				pause = longest
				break
			}
		}
	}
	return pause + time.Duration((random-0.5)*0.2*float64(pause))
}
