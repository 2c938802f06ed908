package main

import (
	"context"
	"errors"
	"io"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keelson-os/keelson/machined/host/hosttest"
	"github.com/keelson-os/keelson/machined/supervise"
)

// testNode is a node of a machine that does not exist.
func testNode(t *testing.T) *node {
	return newNode(t.Context(), &hosttest.OS{}, io.Discard)
}

// journal notes what ran.
type journal struct {
	mu    sync.Mutex
	lines []string
}

func (j *journal) task(name string, result func(run int) error) task {
	runs := 0
	return task{name, time.Minute, supervise.FailTask, func(*node, context.Context) error {
		j.mu.Lock()
		defer j.mu.Unlock()
		runs++
		j.lines = append(j.lines, name)
		return result(runs)
	}}
}

func succeed(int) error { return nil }
func fail(int) error    { return errors.New("broken") }

func TestRunnerPolicies(t *testing.T) {
	failTwice := func(run int) error {
		if run <= 2 {
			return errors.New("not yet")
		}
		return nil
	}
	for name, c := range map[string]struct {
		policy   failurePolicy
		result   func(int) error
		want     string
		err      string
		problems string
	}{
		"goes on":                    {goOn, fail, "one two three", "", "middle: broken"},
		"gives up":                   {giveUp, fail, "one two", "test: phase middle: broken", "middle: broken"},
		"tries again":                {retry, failTwice, "one two two two three", "", ""},
		"a wrong config stays wrong": {retry, func(int) error { return &configError{errors.New("no link")} }, "one two", "test: phase middle: no link", "middle: no link"},
		"a panic is error":           {giveUp, func(int) error { panic("bug") }, "one two", "panic: bug", "panic: bug"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { // the delays pass at once
				n := testNode(t)
				defer n.console.close()
				var j journal
				err := n.run(t.Context(), sequence{"test", []phase{
					{"first", giveUp, []task{j.task("one", succeed)}},
					{"middle", c.policy, []task{j.task("two", c.result)}},
					{"last", giveUp, []task{j.task("three", succeed)}},
				}})
				if got := strings.Join(j.lines, " "); got != c.want {
					t.Errorf("ran %q, want %q", got, c.want)
				}
				if c.err == "" && err != nil || c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)) {
					t.Errorf("error %v, want %q", err, c.err)
				}
				if got := strings.Join(n.Status().GetProblems(), "; "); !strings.Contains(got, c.problems) || c.problems == "" && got != "" {
					t.Errorf("problems %q, want %q", got, c.problems)
				}
			})
		})
	}
}

func TestRetryRunsOnlyWhatFailed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := testNode(t)
		defer n.console.close()
		var j journal
		err := n.run(t.Context(), sequence{"test", []phase{{"api", retry, []task{
			j.task("server", succeed),
			j.task("apid", func(run int) error {
				if run == 1 {
					return errors.New("not yet")
				}
				return nil
			}),
		}}}})
		if err != nil {
			t.Fatal(err)
		}
		counts := map[string]int{}
		for _, line := range j.lines {
			counts[line]++
		}
		if diff := cmp.Diff(map[string]int{"server": 1, "apid": 2}, counts); diff != "" {
			t.Error(diff)
		}
	})
}

func TestStopEndsRetriesAndDeadlinesEndTasks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := testNode(t)
		defer n.console.close()
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		hang := func(_ *node, ctx context.Context) error {
			<-ctx.Done()
			return ctx.Err()
		}
		err := n.run(ctx, sequence{"test", []phase{{"api", retry, []task{{"hang", time.Second, supervise.FailTask, hang}}}}})
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error %v", err)
		}
	})
}

func TestAHangingTaskHoldsUpNobodyWhoGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := testNode(t)
		defer n.console.close()
		thaw := make(chan struct{})
		defer close(thaw)
		hang := func(*node, context.Context) error { <-thaw; return nil }
		var j journal
		err := n.run(t.Context(), sequence{"reset", []phase{
			{"cluster", giveUp, []task{{"membership", time.Minute, supervise.FailTask, hang}}},
			{"wipe", goOn, []task{j.task("disk", succeed)}},
		}})
		if err == nil || !strings.Contains(err.Error(), "membership hangs") || len(j.lines) > 0 {
			t.Errorf("ran %q, error %v", j.lines, err)
		}
	})
}

func TestATaskThatHangsIsLeftBehindWhereThePhaseGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := testNode(t)
		defer n.console.close()
		thaw := make(chan struct{})
		defer close(thaw)
		hang := func(*node, context.Context) error { <-thaw; return nil }
		var j journal
		err := n.run(t.Context(), sequence{"test", []phase{
			{"storage", goOn, []task{{"file systems", time.Minute, supervise.FailTask, hang}}},
			{"last", goOn, []task{j.task("one", succeed)}},
		}})
		if err != nil || len(j.lines) != 1 {
			t.Errorf("ran %q, error %v", j.lines, err)
		}
		if problems := strings.Join(n.Status().GetProblems(), "; "); !strings.Contains(problems, "file systems hangs") {
			t.Errorf("problems %q", problems)
		}
	})
}

func TestRetryDelay(t *testing.T) {
	var got []time.Duration
	for failures := 1; failures <= 7; failures++ {
		got = append(got, retryDelay(failures)/time.Second)
	}
	if diff := cmp.Diff([]time.Duration{2, 4, 8, 16, 32, 60, 60}, got); diff != "" {
		t.Error(diff)
	}
}
