package supervise

import (
	"context"
	"io"
	"sync"
)

// Ring keeps the newest values that fit its limits. Writers never wait: each
// reader has a place of its own in the ring, and one that falls behind what
// the ring holds is told how much it missed.
type Ring[T any] struct {
	maxCount int
	maxSize  int
	sizeOf   func(T) int

	mu     sync.Mutex
	values []T // values[start:] are kept; what is before start is dropped
	start  int
	first  uint64 // sequence number of values[start]; counts from 1
	size   int
	wake   chan struct{}
	closed bool
}

// NewRing makes a ring of at most maxCount values that sizeOf adds up to at
// most maxSize.
func NewRing[T any](maxCount, maxSize int, sizeOf func(T) int) *Ring[T] {
	return &Ring[T]{maxCount: maxCount, maxSize: maxSize, sizeOf: sizeOf, first: 1, wake: make(chan struct{})}
}

// Append adds a value, made by build from its sequence number.
func (r *Ring[T]) Append(build func(sequence uint64) T) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return
	}
	value := build(r.first + uint64(r.held()))
	r.values = append(r.values, value)
	r.size += r.sizeOf(value)
	for r.held() > r.maxCount || (r.size > r.maxSize && r.held() > 1) {
		r.size -= r.sizeOf(r.values[r.start])
		var none T
		r.values[r.start] = none // let go of what it points to
		r.start++
		r.first++
	}
	// Moving the rest down when half is dropped costs one copy per value.
	if r.start > len(r.values)/2 {
		r.values = append(r.values[:0], r.values[r.start:]...)
		clear(r.values[len(r.values):cap(r.values)])
		r.start = 0
	}
	close(r.wake)
	r.wake = make(chan struct{})
}

// Close ends the readers that follow, after what they have not read yet.
func (r *Ring[T]) Close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.closed {
		r.closed = true
		close(r.wake)
	}
}

func (r *Ring[T]) held() int { return len(r.values) - r.start }

// Reader starts reading at the newest tail values; a negative tail means at the
// oldest.
func (r *Ring[T]) Reader(tail int) *Reader[T] {
	r.mu.Lock()
	defer r.mu.Unlock()
	next := r.first
	if tail >= 0 && tail < r.held() {
		next += uint64(r.held() - tail)
	}
	return &Reader[T]{ring: r, next: next}
}

// Reader is a place in a Ring. It holds nothing and needs no closing.
type Reader[T any] struct {
	ring *Ring[T]
	next uint64
}

// Next returns the next value and how many were dropped before it since the
// last call. At the newest value it waits if follow is set; otherwise, and
// when the ring is closed, it returns io.EOF.
func (r *Reader[T]) Next(ctx context.Context, follow bool) (value T, missed uint64, err error) {
	for {
		r.ring.mu.Lock()
		if r.next < r.ring.first {
			missed += r.ring.first - r.next
			r.next = r.ring.first
		}
		offset := int(r.next - r.ring.first)
		if offset < r.ring.held() {
			value = r.ring.values[r.ring.start+offset]
			r.next++
			r.ring.mu.Unlock()
			return value, missed, nil
		}
		wake, closed := r.ring.wake, r.ring.closed
		r.ring.mu.Unlock()
		if !follow || closed {
			return value, missed, io.EOF
		}
		select {
		case <-ctx.Done():
			return value, missed, context.Cause(ctx)
		case <-wake:
		}
	}
}
