package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// maxTries is how many processes a spec is given to before it counts as not
// run: each of them ended without telling what became of it.
const maxTries = 3

// maxIdleBatches is how many batches in a row may run nothing at all before the
// run is given up: the cluster is not there, or the suite does not start.
const maxIdleBatches = 3

// runner runs specs and keeps what became of them.
type runner struct {
	suite      suite
	kubeconfig string
	out        string // the folder of everything that a run leaves
	batchSize  int
	silent     time.Duration
	journal    *journal
	// after is called after each batch.
	after func() error

	mu      sync.Mutex
	print   io.Writer
	began   time.Time
	total   int             // specs that this run is to run
	seen    map[string]bool // those of them that ended
	tries   map[string]int
	batches int // number of the last batch's folder
	idle    int // batches in a row that ran nothing
	failure error
}

// runAll runs specs in up to procs processes at once, then those of serial in
// one.
func (r *runner) runAll(ctx context.Context, parallel, serial []string, procs int) error {
	r.began, r.total = time.Now(), len(parallel)+len(serial)
	r.seen, r.tries = map[string]bool{}, map[string]int{}
	for _, part := range []struct {
		specs []string
		procs int
	}{{parallel, procs}, {serial, 1}} {
		queue := &queue{specs: part.specs, size: r.batchSize}
		var workers sync.WaitGroup
		for range part.procs {
			workers.Go(func() { r.work(ctx, queue) })
		}
		workers.Wait()
	}
	return r.failure
}

// work runs batches until there are none, the time is over, or it makes no
// sense to go on.
func (r *runner) work(ctx context.Context, queue *queue) {
	for ctx.Err() == nil {
		specs := queue.next()
		if len(specs) == 0 {
			return
		}
		name, err := r.nextBatch()
		if err != nil {
			r.stop(err)
			return
		}
		b := &batch{name: name, dir: filepath.Join(r.out, "batches", name), specs: specs, silent: r.silent, run: r}
		left, cause := b.start(ctx)
		if !r.judge(specs, left, cause, ctx.Err() != nil) {
			return
		}
		queue.again(r.tryAgain(left))
		if err := r.after(); err != nil {
			r.stop(err)
			return
		}
	}
}

// judge tells whether to go on after a batch.
func (r *runner) judge(specs, left []string, cause error, over bool) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.failure != nil {
		return false
	}
	if cause != nil {
		fmt.Fprintf(r.print, "[%s] %v\n", r.elapsed(), cause)
	}
	if over {
		return true // the loop ends by itself
	}
	if len(left) < len(specs) || errors.Is(cause, errSilent) {
		r.idle = 0
		return true
	}
	if r.idle++; r.idle >= maxIdleBatches {
		r.failure = fmt.Errorf("%d batches in a row ran nothing; the last: %w", r.idle, cause)
		return false
	}
	return true
}

func (r *runner) stop(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failure = errors.Join(r.failure, err)
}

// tryAgain counts what is left of a batch and returns what to try again.
func (r *runner) tryAgain(left []string) []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var again []string
	for _, spec := range left {
		if r.tries[spec]++; r.tries[spec] < maxTries {
			again = append(again, spec)
		} else {
			fmt.Fprintf(r.print, "[%s] given up after %d tries: %s\n", r.elapsed(), maxTries, spec)
		}
	}
	return again
}

// nextBatch makes the folder of a new batch.
func (r *runner) nextBatch() (string, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := os.MkdirAll(filepath.Join(r.out, "batches"), 0o755); err != nil {
		return "", err
	}
	for {
		r.batches++
		name := fmt.Sprintf("%04d", r.batches)
		err := os.Mkdir(filepath.Join(r.out, "batches", name), 0o755)
		if err == nil {
			return name, nil
		}
		if !errors.Is(err, os.ErrExist) {
			return "", err
		}
	}
}

// record writes a result down and prints a line when it is the first about the
// spec in its batch.
func (r *runner) record(one result) {
	one.Time = time.Now().UTC().Truncate(time.Second)
	before, known := r.journal.get(one.Spec)
	first := !known || before.last.Batch != one.Batch
	// A late progress message must not replace the report's line.
	if !first && before.last.Seconds > 0 && one.Seconds == 0 {
		return
	}
	if err := r.journal.add(one); err != nil {
		r.stop(err)
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.seen[one.Spec] = true
	if first {
		fmt.Fprintf(r.print, "[%s] %d/%d %-7s %s\n", r.elapsed(), len(r.seen), r.total, one.State, one.Spec)
	}
	if one.State != passed && one.Seconds > 0 && one.Message != "" {
		fmt.Fprintf(r.print, "          %s: %s\n", one.Spec, one.Message)
	}
}

func (r *runner) elapsed() string {
	d := time.Since(r.began).Round(time.Second)
	return fmt.Sprintf("%3dm%02ds", int(d.Minutes()), int(d.Seconds())%60)
}

// queue hands out specs in batches.
type queue struct {
	mu    sync.Mutex
	specs []string
	alone []string // of batches that broke off: tried again one by one
	size  int
}

func (q *queue) next() []string {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.specs) > 0 {
		n := min(q.size, len(q.specs))
		batch := q.specs[:n:n]
		q.specs = q.specs[n:]
		return batch
	}
	if len(q.alone) > 0 {
		batch := q.alone[:1:1]
		q.alone = q.alone[1:]
		return batch
	}
	return nil
}

func (q *queue) again(specs []string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.alone = append(q.alone, specs...)
}
