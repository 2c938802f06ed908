package main

import (
	"context"
	"slices"
	"time"

	"go.uber.org/zap"
)

// Between two attempts to tell the others a new address.
const (
	moveRetryFirst = time.Second
	moveRetryLast  = time.Minute
)

// tellAddress tells the others where this member is now, should its node have
// come back with another address. It calls them, so that it takes part before
// they know.
func (a *admin) tellAddress(ctx context.Context, m *member) error {
	for next := moveRetryFirst; ; next = min(2*next, moveRetryLast) {
		self := m.Server.Cluster().Member(m.Server.MemberID())
		if self == nil || slices.Equal(self.PeerURLs, []string{a.flags.peer}) {
			return nil
		}
		attempt, cancel := context.WithTimeout(ctx, changeTime)
		_, err := m.client.MemberUpdate(attempt, uint64(self.ID), []string{a.flags.peer})
		cancel()
		if err == nil {
			a.note("%s moved to %s", a.flags.name, a.flags.peer)
			return nil
		}
		a.log.Warn("cannot tell the others this member's new address yet", zap.Error(err))
		if !pause(ctx, next) {
			return nil
		}
	}
}
