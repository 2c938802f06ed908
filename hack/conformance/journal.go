package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"sync"
	"time"
)

// state is how a spec ended.
type state string

const (
	passed  state = "passed"
	failed  state = "failed"
	skipped state = "skipped" // by the suite itself, which says why
)

// result is one line of the journal.
type result struct {
	Spec    string    `json:"spec"`
	State   state     `json:"state"`
	Seconds float64   `json:"seconds"`
	Message string    `json:"message,omitempty"` // why it failed or was skipped
	Run     string    `json:"run"`               // the folder of the process that ran it
	Time    time.Time `json:"time"`              // of its end
}

// outcome is what is known of a spec.
type outcome struct {
	last     result
	attempts int // how often it ran to an end
}

// journal keeps results in a file, one line each, written as they come: a kill
// loses none. The last line about a spec counts.
type journal struct {
	mu       sync.Mutex
	file     *os.File
	outcomes map[string]outcome
}

// openJournal opens or makes the file. With results of an earlier run in it, it
// is an error unless resume is set.
func openJournal(path string, resume bool) (*journal, error) {
	text, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if len(text) > 0 && !resume {
		return nil, fmt.Errorf("%s has the results of an earlier run: go on with it by -resume, or give another folder by -out", path)
	}
	j := &journal{outcomes: map[string]outcome{}}
	// A torn last line is of a spec that runs again.
	whole := text[:bytes.LastIndexByte(text, '\n')+1]
	for decoder := json.NewDecoder(bytes.NewReader(whole)); ; {
		var r result
		err := decoder.Decode(&r)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", path, err)
		}
		j.note(r)
	}
	if j.file, err = os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644); err != nil {
		return nil, err
	}
	if err := j.file.Truncate(int64(len(whole))); err != nil {
		return nil, errors.Join(err, j.file.Close())
	}
	if _, err := j.file.Seek(0, io.SeekEnd); err != nil {
		return nil, errors.Join(err, j.file.Close())
	}
	return j, nil
}

// add writes a result down before it returns.
func (j *journal) add(r result) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	line, err := json.Marshal(r)
	if err != nil {
		return err
	}
	if _, err := j.file.Write(append(line, '\n')); err != nil {
		return fmt.Errorf("write down a result: %w", err)
	}
	if err := j.file.Sync(); err != nil {
		return fmt.Errorf("write down a result: %w", err)
	}
	j.note(r)
	return nil
}

// note is called with the lock held, or before anyone else has the journal.
func (j *journal) note(r result) {
	j.outcomes[r.Spec] = outcome{r, j.outcomes[r.Spec].attempts + 1}
}

// all returns a copy of what is known.
func (j *journal) all() map[string]outcome {
	j.mu.Lock()
	defer j.mu.Unlock()
	return maps.Clone(j.outcomes)
}

func (j *journal) close() error { return j.file.Close() }
