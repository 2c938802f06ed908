package kubernetes

import (
	"context"
	"sync"
)

// milestone is something that is reached, can be lost again, and can be waited
// for.
type milestone struct {
	mu      sync.Mutex
	reached chan struct{} // closed while it is reached
}

func newMilestone() *milestone { return &milestone{reached: make(chan struct{})} }

// reach marks it; lose takes the mark back. Both may be called again.
func (m *milestone) reach() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.isReached() {
		close(m.reached)
	}
}

func (m *milestone) lose() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.isReached() {
		m.reached = make(chan struct{})
	}
}

// has tells whether it is reached now.
func (m *milestone) has() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.isReached()
}

// wait returns when it is reached, or with ctx's error.
func (m *milestone) wait(ctx context.Context) error {
	m.mu.Lock()
	reached := m.reached
	m.mu.Unlock()
	select {
	case <-reached:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// isReached needs the lock.
func (m *milestone) isReached() bool {
	select {
	case <-m.reached:
		return true
	default:
		return false
	}
}
