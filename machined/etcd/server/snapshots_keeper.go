package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"go.uber.org/zap"
)

// lookAgain is how long the keeper sleeps at most: what it waits for is a time
// of the clock, and the clock may be set.
const lookAgain = 10 * time.Minute

// pin holds the data as it is now; its error says why that cannot be done. The
// data may be newer than the revision, never older.
type pin func() (data pinned, revision int64, err error)

// errNotNow is pin's when a snapshot would be of no use now. That is no
// problem of the snapshots.
var errNotNow = errors.New("not now")

// keeper makes this member's snapshots and keeps some of them.
type keeper struct {
	dir              string
	interval, maxAge time.Duration // zero: none; never too old
	number           int
	// settle is how long after the start the first one is made at the earliest.
	settle time.Duration
	free   func(dir string) (int64, error)
	now    func() time.Time
	log    *zap.Logger
	// made gets a value after each snapshot, unless one waits there already.
	made chan struct{}

	reading sync.Mutex // one file is read at a time

	mu      sync.Mutex
	read    map[string]verdict // by name
	problem string
}

// verdict is what reading a file told, as long as the file is the same.
type verdict struct {
	size    int64
	changed time.Time
	intact  bool
}

// run makes snapshots until ctx ends.
func (k *keeper) run(ctx context.Context, source pin) {
	if k.interval == 0 {
		return
	}
	k.note(tidy(k.dir))
	failures := 0
	timer := time.NewTimer(k.settle)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		wait, err := k.step(ctx, source)
		if ctx.Err() != nil {
			return
		}
		k.note(err)
		failures++
		if err == nil {
			failures = 0
		} else {
			wait = retryAfter(failures)
		}
		timer.Reset(min(wait, lookAgain))
	}
}

// note remembers what went wrong last; nil is that nothing did.
func (k *keeper) note(err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.problem = ""
	if err != nil {
		k.problem = err.Error()
		k.log.Warn("snapshot not made", zap.Error(err))
	}
}

// step makes a snapshot if it is time for one, removes those that are too many,
// and returns how long nothing is to do.
func (k *keeper) step(ctx context.Context, source pin) (time.Duration, error) {
	list, err := k.known()
	if err != nil {
		return 0, err
	}
	if wait := untilNext(list, k.interval, k.now()); wait > 0 {
		return wait, nil
	}
	err = k.make(ctx, source)
	if errors.Is(err, errNotNow) {
		return firstRetry, nil
	}
	if err != nil {
		return 0, err
	}
	select {
	case k.made <- struct{}{}:
	default:
	}
	return k.interval, k.retire(ctx)
}

func (k *keeper) make(ctx context.Context, source pin) error {
	data, revision, err := source()
	if err != nil {
		return err
	}
	defer data.Close()
	free, err := k.free(k.dir)
	if err != nil {
		return err
	}
	if err := checkSpace(free, data.Size()); err != nil {
		return err
	}
	name := snapshotName(k.now(), revision)
	if err := writeSnapshot(ctx, k.dir, name, data); err != nil {
		return err
	}
	// It was read back just now.
	if info, err := os.Stat(filepath.Join(k.dir, name)); err == nil {
		k.remember(name, verdict{info.Size(), info.ModTime(), true})
	}
	k.log.Info("made a snapshot", zap.String("name", name), zap.Int64("bytes", data.Size()))
	return nil
}

// retire removes what is too much.
func (k *keeper) retire(ctx context.Context) error {
	list, err := k.list(ctx)
	if err != nil {
		return err
	}
	var errs []error
	for _, one := range superfluous(list, k.number, k.maxAge, k.now()) {
		errs = append(errs, removeSnapshot(k.dir, one.name))
	}
	return errors.Join(errs...)
}

// known lists the snapshots; damaged are those of which that is known.
func (k *keeper) known() ([]kept, error) {
	list, err := readSnapshots(k.dir)
	if err != nil {
		return nil, err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	for i := range list {
		verdict, known := k.read[list[i].name]
		list[i].damaged = known && !verdict.intact
	}
	return list, nil
}

// list lists the snapshots and has read each of them once.
func (k *keeper) list(ctx context.Context) ([]kept, error) {
	list, err := readSnapshots(k.dir)
	if err != nil {
		return nil, err
	}
	names := map[string]bool{}
	present := list[:0]
	for _, one := range list {
		intact, err := k.intact(ctx, one.name)
		if errors.Is(err, fs.ErrNotExist) {
			continue // removed meanwhile
		}
		if err != nil {
			return nil, err
		}
		one.damaged, names[one.name] = !intact, true
		present = append(present, one)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	for name := range k.read {
		if !names[name] {
			delete(k.read, name)
		}
	}
	return present, nil
}

// intact tells whether a snapshot is whole, from memory if it can.
func (k *keeper) intact(ctx context.Context, name string) (bool, error) {
	k.reading.Lock()
	defer k.reading.Unlock()
	file, err := os.Open(filepath.Join(k.dir, name))
	if err != nil {
		return false, fmt.Errorf("read a snapshot: %w", err)
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return false, fmt.Errorf("read a snapshot: %w", err)
	}
	k.mu.Lock()
	told, known := k.read[name]
	k.mu.Unlock()
	if known && told.size == info.Size() && told.changed.Equal(info.ModTime()) {
		return told.intact, nil
	}
	_, err = checkFile(ctx, file)
	if ctx.Err() != nil {
		return false, fmt.Errorf("read snapshot %s: %w", name, ctx.Err())
	}
	if err != nil {
		k.log.Warn("snapshot is damaged", zap.String("name", name), zap.Error(err))
	}
	k.remember(name, verdict{info.Size(), info.ModTime(), err == nil})
	return err == nil, nil
}

func (k *keeper) remember(name string, told verdict) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.read == nil {
		k.read = map[string]verdict{}
	}
	k.read[name] = told
}

// trouble says what went wrong with the last snapshot; empty when nothing did.
func (k *keeper) trouble() string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.problem
}
