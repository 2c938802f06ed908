package main

import (
	"context"
	"crypto/rand"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// seatPrefix begins the keys of elections; Kubernetes' begin with /registry.
const seatPrefix = "/keelson/elections/"

// An election is one key that its holder writes anew every renewEvery. The
// holder gives up holdFor after it sent the last write that was acknowledged.
// Another one takes the key, by a write that is refused if there was one since,
// when it has known of no new write for takeAfter. It cannot know of a write
// before it was sent, so that takeAfter-holdFor is a time in which nobody holds,
// whatever the clocks show: enough for the old holder to hand over, and for
// clocks of different speed.
//
// Leases of etcd's would spare the writes, but not expire in this time: at least
// one and a half election timeouts, twice that when the leader is what died.
const (
	renewEvery = 2 * time.Second
	holdFor    = 6 * time.Second
	takeAfter  = 7500 * time.Millisecond
	// lookEvery is between two looks of others at their own copy of the key.
	lookEvery = time.Second
	// seatTimeout bounds one write; what came of it shows at the next.
	seatTimeout = 1500 * time.Millisecond
	// seatRetry is the pause after a write or look that went wrong.
	seatRetry = 200 * time.Millisecond
)

// seat is the key as it was at some moment; nobody holds one of revision zero.
type seat struct {
	revision int64  // of its last write
	value    string // the holder's name, a space, and which of its candidates
}

func (s seat) holder() string {
	name, _, _ := strings.Cut(s.value, " ")
	return name
}

// sight is what a candidate knows of the seat, and since when.
type sight struct {
	seat
	since time.Time
}

// see takes a look at the seat.
func (s sight) see(now seat, at time.Time) sight {
	if now == s.seat && !s.since.IsZero() {
		return s
	}
	return sight{now, at}
}

// free tells whether the seat may be taken.
func (s sight) free(at time.Time) bool {
	return !s.since.IsZero() && (s.revision == 0 || at.Sub(s.since) >= takeAfter)
}

// wait is the pause before the next look.
func (s sight) wait(at time.Time) time.Duration {
	return max(0, min(lookEvery, takeAfter-at.Sub(s.since)))
}

// candidate takes part in one election.
type candidate struct {
	kv   clientv3.KV
	key  string
	name string // of the node
	// value is what this candidate writes: not that of any other, nor its own of
	// an earlier hold, whose writes may be late.
	value string
}

func newCandidate(kv clientv3.KV, election, name string) *candidate {
	return &candidate{kv: kv, key: seatPrefix + election, name: name, value: newValue(name)}
}

func newValue(name string) string { return name + " " + rand.Text() }

// tellFunc is told who holds the seat, and until when this candidate does; a
// zero time means that it does not.
type tellFunc func(holder string, until time.Time) error

// run stands for the seat and holds it whenever it can, until ctx ends or tell
// fails. Then the seat is free for others at once.
func (c *candidate) run(ctx context.Context, tell tellFunc) error {
	var known sight
	for told := false; ; {
		now, err := c.look(ctx)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		pause := seatRetry
		if err == nil {
			before := known
			known = known.see(now, time.Now())
			if !told || known.holder() != before.holder() {
				told = true
				if err := tell(known.holder(), time.Time{}); err != nil {
					return err
				}
			}
			// By its own value, nobody holds it either: that write's answer was lost.
			if known.free(time.Now()) || known.value == c.value {
				if err := c.take(ctx, known.seat, tell); err != nil {
					return err
				}
			} else {
				pause = known.wait(time.Now())
			}
		}
		if err := wait(ctx, pause); err != nil {
			return err
		}
	}
}

// look reads this member's own copy of the key, which needs no quorum and no
// network. A copy that is behind makes the seat look free too early at worst, and
// the write that takes it is refused then.
func (c *candidate) look(ctx context.Context) (seat, error) {
	ctx, cancel := context.WithTimeout(ctx, seatTimeout)
	defer cancel()
	got, err := c.kv.Get(ctx, c.key, clientv3.WithSerializable())
	if err != nil {
		return seat{}, err
	}
	return seatOf(got), nil
}

func seatOf(got *clientv3.GetResponse) seat {
	if len(got.Kvs) == 0 {
		return seat{}
	}
	return seat{got.Kvs[0].ModRevision, string(got.Kvs[0].Value)}
}

// take takes the free seat if nobody was quicker and holds it until it is lost,
// which is no error. When ctx ends, or tell fails, it is given up. A first write
// of which nothing is heard may be repeated by the next call: nobody held the
// seat by it.
func (c *candidate) take(ctx context.Context, free seat, tell tellFunc) error {
	mine, until := free, time.Time{}
	defer func() {
		if !until.IsZero() || ctx.Err() != nil {
			c.resign(ctx)
			c.value = newValue(c.name)
		}
	}()
	for {
		sent := time.Now()
		now, written, err := c.write(ctx, mine, until)
		var pause time.Duration
		switch {
		case written:
			mine, until, pause = now, sent.Add(holdFor), renewEvery
			if err := tell(c.name, until); err != nil {
				return err
			}
		case err == nil && now.value == c.value:
			mine = now // an earlier write of ours, whose answer was late
		case until.IsZero():
			return nil
		case err == nil || !time.Now().Before(until):
			// Someone else's, nobody's, or unknown for too long.
			return tell(now.holder(), time.Time{})
		default:
			pause = min(seatRetry, time.Until(until))
		}
		if err := wait(ctx, pause); err != nil {
			return err
		}
	}
}

// write writes the key if it is as it was, before the end if there is one. If
// it is not, it returns what it is.
func (c *candidate) write(ctx context.Context, was seat, end time.Time) (now seat, written bool, err error) {
	limit := time.Now().Add(seatTimeout)
	if !end.IsZero() && end.Before(limit) {
		limit = end
	}
	ctx, cancel := context.WithDeadline(ctx, limit)
	defer cancel()
	answer, err := c.kv.Txn(ctx).
		If(clientv3.Compare(clientv3.ModRevision(c.key), "=", was.revision)).
		Then(clientv3.OpPut(c.key, c.value)).
		Else(clientv3.OpGet(c.key)).
		Commit()
	if err != nil {
		return seat{}, false, err
	}
	if answer.Succeeded {
		return seat{answer.Header.Revision, c.value}, true, nil
	}
	return seatOf((*clientv3.GetResponse)(answer.Responses[0].GetResponseRange())), false, nil
}

// resign frees the seat if it is this candidate's. ctx may have ended.
func (c *candidate) resign(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), seatTimeout)
	defer cancel()
	// Without an answer others wait for takeAfter, as they do for a dead node.
	_, _ = c.kv.Txn(ctx).
		If(clientv3.Compare(clientv3.Value(c.key), "=", c.value)).
		Then(clientv3.OpDelete(c.key)).
		Commit()
}

// wait returns after the pause, or early with ctx's error.
func wait(ctx context.Context, pause time.Duration) error {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
