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

const (
	// maxTries is how many processes a spec is given to when they tell nothing of
	// it; then it counts as not run.
	maxTries = 3
	// maxBroken is how many processes in a row may tell nothing before the run is
	// given up: the cluster is not there, or the suite does not start.
	maxBroken = 5
)

// runner runs specs and keeps what became of them.
type runner struct {
	suite      suite
	kubeconfig string
	out        string // the folder of everything that a run leaves
	timeout    time.Duration
	journal    *journal
	print      io.Writer
	// after is called after each result.
	after func() error

	mu     sync.Mutex // for what follows, and for print
	began  time.Time
	total  int // specs that this run is to run
	ended  int // those of them that ended
	broken int // processes in a row that told nothing
	tries  map[string]int
	queue  []string
	runs   int   // number of the last process's folder
	err    error // why the run was given up
}

// runAll runs specs in up to procs processes at once, then those of serial one
// after the other.
func (r *runner) runAll(ctx context.Context, parallel, serial []string, procs int) error {
	r.began, r.total, r.tries = time.Now(), len(parallel)+len(serial), map[string]int{}
	for _, part := range []struct {
		specs []string
		procs int
	}{{parallel, procs}, {serial, 1}} {
		r.queue = part.specs
		var workers sync.WaitGroup
		for range part.procs {
			workers.Go(func() { r.work(ctx) })
		}
		workers.Wait()
	}
	return r.err
}

// work runs specs until there are none, the time is over, or it makes no sense to
// go on.
func (r *runner) work(ctx context.Context) {
	for ctx.Err() == nil {
		spec, ok := r.next()
		if !ok {
			return
		}
		name, err := r.newFolder()
		if err != nil {
			r.giveUp(err)
			return
		}
		a := attempt{spec: spec, dir: filepath.Join(r.out, runsFolder, name), suite: r.suite, config: r.kubeconfig, timeout: r.timeout}
		one, err := a.run(ctx)
		if err != nil {
			r.withoutResult(ctx, spec, name, err)
			continue
		}
		one.Run = name
		if err := r.record(one); err != nil {
			r.giveUp(err)
			return
		}
	}
}

func (r *runner) next() (spec string, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err != nil || len(r.queue) == 0 {
		return "", false
	}
	spec, r.queue = r.queue[0], r.queue[1:]
	return spec, true
}

// withoutResult tells of a process that told nothing of its spec, and tries
// again.
func (r *runner) withoutResult(ctx context.Context, spec, name string, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	fmt.Fprintf(r.print, "[%s] no result of %s: %v; see %s/%s\n", r.elapsed(), spec, err, runsFolder, name)
	if ctx.Err() != nil {
		return
	}
	r.broken++
	if r.tries[spec]++; r.tries[spec] < maxTries {
		r.queue = append(r.queue, spec)
	}
	if r.broken >= maxBroken || (len(r.queue) == 0 && r.ended == 0) {
		r.err = errors.Join(r.err, fmt.Errorf("%d processes of the suite in a row came to nothing; the last: %w", r.broken, err))
	}
}

func (r *runner) giveUp(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.err = errors.Join(r.err, err)
}

// runsFolder holds a folder for each process of the suite.
const runsFolder = "runs"

// newFolder makes the folder of a new process, and returns its name.
func (r *runner) newFolder() (string, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := os.MkdirAll(filepath.Join(r.out, runsFolder), 0o755); err != nil {
		return "", err
	}
	for {
		r.runs++
		name := fmt.Sprintf("%04d", r.runs)
		err := os.Mkdir(filepath.Join(r.out, runsFolder, name), 0o755)
		if !errors.Is(err, os.ErrExist) {
			return name, err
		}
	}
}

// record writes a result down and prints it.
func (r *runner) record(one result) error {
	one.Time = time.Now().UTC().Truncate(time.Second)
	if err := r.journal.add(one); err != nil {
		return err
	}
	r.mu.Lock()
	r.broken = 0
	r.ended++
	fmt.Fprintf(r.print, "[%s] %d/%d %-7s %4.0f s  %s\n", r.elapsed(), r.ended, r.total, one.State, one.Seconds, one.Spec)
	if one.Message != "" {
		fmt.Fprintf(r.print, "          %s (%s/%s)\n", one.Message, runsFolder, one.Run)
	}
	r.mu.Unlock()
	return r.after()
}

func (r *runner) elapsed() string {
	d := time.Since(r.began).Round(time.Second)
	return fmt.Sprintf("%3dm%02ds", int(d.Minutes()), int(d.Seconds())%60)
}
