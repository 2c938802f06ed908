package main

import (
	"log/slog"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"
)

// Strangers can cause as many log lines as they like: so many come through,
// refilled one in refusalInterval.
const (
	refusalBurst    = 20
	refusalInterval = 3 * time.Second
)

// throttledLog logs what anybody on the network can cause, at a bounded rate.
type throttledLog struct {
	log     *slog.Logger
	limiter *rate.Limiter
	dropped atomic.Int64
}

func newThrottledLog(log *slog.Logger) *throttledLog {
	return &throttledLog{log: log, limiter: rate.NewLimiter(rate.Every(refusalInterval), refusalBurst)}
}

// warn logs, or counts what it leaves out and tells the count the next time.
func (t *throttledLog) warn(message string, attributes ...any) {
	if !t.limiter.Allow() {
		t.dropped.Add(1)
		return
	}
	if n := t.dropped.Swap(0); n > 0 {
		attributes = append(attributes, "unlogged_before", n)
	}
	t.log.Warn(message, attributes...)
}
