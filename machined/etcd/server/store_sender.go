package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/keelson-os/keelson/pkg/snapshot"
)

// glance is how often a member looks whether it has come to lead.
const glance = time.Minute

// store is where snapshots are sent.
type store interface {
	list(ctx context.Context) ([]kept, error)
	put(ctx context.Context, one kept, content io.ReaderAt, sum snapshot.Sum) error
	remove(ctx context.Context, one kept) error
}

// unsent returns the snapshots that the store lacks, oldest first: the good
// ones that are newer than all it has. Older ones it had, or another leader's
// in their place.
func unsent(local, remote []kept, now time.Time) []kept {
	soon := now.Add(clockSlack)
	last, any := newest(remote, now)
	if last.time.After(soon) {
		any = false // all it has are of clocks that were wrong
	}
	var list []kept
	for _, one := range newestFirst(local, now) {
		if !one.damaged && !one.time.After(soon) && (!any || one.time.After(last.time)) {
			list = append(list, one)
		}
	}
	slices.Reverse(list)
	return list
}

// sender sends the leader's snapshots to the store.
type sender struct {
	keeper *keeper
	open   func() (store, error)
	log    *zap.Logger
	glance time.Duration

	mu      sync.Mutex
	problem string
}

// run sends snapshots until ctx ends, while leads says so.
func (s *sender) run(ctx context.Context, leads func() bool) {
	timer := time.NewTimer(s.glance)
	defer timer.Stop()
	synced, failures := "", 0
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.keeper.made:
		case <-timer.C:
		}
		wait := s.glance
		last, err := s.step(ctx, leads(), synced)
		if ctx.Err() != nil {
			return
		}
		if synced = last; err == nil {
			failures = 0
		} else {
			failures++
			wait = retryAfter(failures)
		}
		s.note(err)
		timer.Reset(wait)
	}
}

// step brings the store up to date, if this member leads and has made a
// snapshot since that was done last. It returns the newest one it was done for.
func (s *sender) step(ctx context.Context, leads bool, synced string) (string, error) {
	if !leads {
		return synced, nil
	}
	local, err := s.keeper.known()
	if err != nil {
		return synced, err
	}
	last, any := newest(local, s.keeper.now())
	if !any || last.name == synced {
		return synced, nil
	}
	if err := s.sync(ctx); err != nil {
		return synced, err
	}
	return last.name, nil
}

// sync sends what the store lacks and removes there what is too much.
func (s *sender) sync(ctx context.Context) error {
	local, err := s.keeper.list(ctx)
	if err != nil {
		return err
	}
	to, err := s.open()
	if err != nil {
		return err
	}
	remote, err := to.list(ctx)
	if err != nil {
		return err
	}
	now := s.keeper.now()
	for _, one := range unsent(local, remote, now) {
		if err := s.send(ctx, to, one); err != nil {
			return err
		}
		s.log.Info("sent a snapshot to the store", zap.String("name", one.name), zap.Int64("bytes", one.size))
		remote = append(remote, one)
	}
	for _, one := range local {
		if !one.stored && slices.ContainsFunc(remote, func(there kept) bool { return there.name == one.name && there.size == one.size }) {
			if err := markStored(s.keeper.dir, one.name); err != nil {
				return err
			}
		}
	}
	var errs []error
	for _, one := range superfluous(remote, s.keeper.number, s.keeper.maxAge, now) {
		errs = append(errs, to.remove(ctx, one))
	}
	return errors.Join(errs...)
}

func (s *sender) send(ctx context.Context, to store, one kept) error {
	file, err := os.Open(filepath.Join(s.keeper.dir, one.name))
	if err != nil {
		return fmt.Errorf("read a snapshot: %w", err)
	}
	defer file.Close()
	defer forget(file)
	sum, err := checkFile(ctx, file)
	if err != nil {
		return fmt.Errorf("read snapshot %s: %w", one.name, err)
	}
	return to.put(ctx, one, file, sum)
}

// note remembers what went wrong last; nil is that nothing did.
func (s *sender) note(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.problem = ""
	if err != nil {
		s.problem = err.Error()
		s.log.Warn("snapshot not sent", zap.Error(err))
	}
}

// trouble says what went wrong with the store last; empty when nothing did.
func (s *sender) trouble() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.problem
}
