package main

import (
	"sync"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/types"
)

// learners is what the leader knows of members that do not vote yet.
type learners struct {
	mu    sync.Mutex
	known map[types.ID]learner
}

type learner struct {
	since time.Time // this leader has known it
	why   string    // it is not promoted yet
}

// see returns since when each of the learners has been known, and forgets all
// others.
func (l *learners) see(ids []types.ID, now time.Time) map[types.ID]learner {
	l.mu.Lock()
	defer l.mu.Unlock()
	known := map[types.ID]learner{}
	for _, id := range ids {
		one, ok := l.known[id]
		if !ok {
			one.since = now
		}
		known[id] = one
	}
	l.known = known
	return known
}

// tell notes why a learner is not promoted yet.
func (l *learners) tell(id types.ID, why string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if one, ok := l.known[id]; ok {
		one.why = why
		l.known[id] = one
	}
}

// message says why a learner is not promoted yet, as far as this member knows.
func (l *learners) message(id types.ID) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if why := l.known[id].why; why != "" {
		return why
	}
	return "it is catching up"
}

// maxLag is how many entries of the log a learner may lack to be promoted: as a
// voter it should be of use at once, in case another one fails.
const maxLag = 1000

// caughtUp tells whether a learner that has applied so much of the log may vote.
func caughtUp(applied, committed uint64) bool { return applied+maxLag >= committed }
