package vnet

import (
	"container/heap"
	"context"
	"sync"
	"time"
)

// Limits of one port's outbound queue. A queue holds about two round trips of
// a full TCP window; more would only add latency (bufferbloat).
const (
	queueFrames = 1024
	queueBytes  = 4 << 20
)

// queue holds the frames on their way to one port, ordered by the time they
// are due, so that a delayed pair of ports does not hold up the others. It is
// bounded and drops at the tail: a guest that stops reading loses its own
// frames and nobody else's.
type queue struct {
	mu      sync.Mutex
	frames  frameHeap
	bytes   int
	seq     uint64
	dropped uint64
	wake    chan struct{}
}

func newQueue() *queue {
	return &queue{wake: make(chan struct{}, 1)}
}

// push adds a frame that pop hands out at due and not before. A full queue
// drops it. The frame must not be changed afterwards.
func (q *queue) push(frame []byte, due time.Time) {
	q.mu.Lock()
	if len(q.frames) >= queueFrames || q.bytes+len(frame) > queueBytes {
		q.dropped++
		q.mu.Unlock()
		return
	}
	heap.Push(&q.frames, queued{frame: frame, due: due, seq: q.seq})
	q.seq++
	q.bytes += len(frame)
	q.mu.Unlock()

	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// pop waits for the next due frame. Only one goroutine may call it.
func (q *queue) pop(ctx context.Context) ([]byte, error) {
	for {
		frame, wait := q.take(time.Now())
		if frame != nil {
			return frame, nil
		}
		if err := q.sleep(ctx, wait); err != nil {
			return nil, err
		}
	}
}

// take returns a frame that is due, or how long to wait for the first one
// (negative: the queue is empty).
func (q *queue) take(now time.Time) (frame []byte, wait time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.frames) == 0 {
		return nil, -1
	}
	if wait := q.frames[0].due.Sub(now); wait > 0 {
		return nil, wait
	}
	next := heap.Pop(&q.frames).(queued)
	q.bytes -= len(next.frame)
	return next.frame, 0
}

// sleep returns when a frame was pushed or wait is over (negative: no limit).
func (q *queue) sleep(ctx context.Context, wait time.Duration) error {
	var due <-chan time.Time
	if wait >= 0 {
		timer := time.NewTimer(wait)
		defer timer.Stop()
		due = timer.C
	}
	select {
	case <-q.wake:
	case <-due:
	case <-ctx.Done():
		return ctx.Err()
	}
	return nil
}

func (q *queue) drops() uint64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.dropped
}

// queued is one waiting frame; seq keeps frames due at the same time in order.
type queued struct {
	frame []byte
	due   time.Time
	seq   uint64
}

// frameHeap implements heap.Interface, first due first.
type frameHeap []queued

func (h frameHeap) Len() int      { return len(h) }
func (h frameHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h frameHeap) Less(i, j int) bool {
	if h[i].due.Equal(h[j].due) {
		return h[i].seq < h[j].seq
	}
	return h[i].due.Before(h[j].due)
}

func (h *frameHeap) Push(x any) { *h = append(*h, x.(queued)) }

func (h *frameHeap) Pop() any {
	last := len(*h) - 1
	x := (*h)[last]
	(*h)[last] = queued{} // let go of the frame
	*h = (*h)[:last]
	return x
}
