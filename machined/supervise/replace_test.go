package supervise

import (
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/fstest"

	"golang.org/x/sys/unix"
)

func TestReplaceStopsAndStartsWithTheNewSpec(t *testing.T) {
	s := newSupervisor(t, nil)
	first := inRole("apid", "run")
	first.Essential = true // may not be stopped by a client; that is not who asks here
	must(t, s.Add(first, inRole("other", "run")))
	must(t, s.Start(t.Context(), "apid"))
	awaitLine(t, s, "apid", "up")
	before := awaitState(t, s, "apid", Running)

	second := inRole("apid", "child")
	second.DependsOn = []string{"other"}
	must(t, s.Replace(testContext(t), second))
	if unix.Kill(before.PID, 0) == nil {
		t.Error("the replaced process is still there")
	}
	must(t, s.Start(t.Context(), "other"))
	awaitLine(t, s, "apid", "child up")
	if text := lines(t, s, "apid"); !strings.HasPrefix(text, "[started") || !strings.Contains(text, "\nup\n") {
		t.Errorf("the log of before is lost:\n%s", text)
	}
	status := awaitState(t, s, "apid", Running)
	if status.Essential || strings.Join(status.DependsOn, " ") != "other" || status.Restarts != 0 {
		t.Errorf("status %+v", status)
	}
	if list := s.List(); len(list) != 2 || list[0].Name != "other" {
		t.Errorf("start order %+v", list)
	}
	must(t, s.Stop(testContext(t), "apid"))
}

func TestReplaceLeavesAStoppedServiceStopped(t *testing.T) {
	s := newSupervisor(t, nil)
	must(t, s.Add(inRole("web", "exit-3")))
	must(t, s.Replace(testContext(t), inRole("web", "run")))
	if status, _ := s.Status("web"); status.State != Stopped {
		t.Errorf("status %+v", status)
	}
	must(t, s.Start(t.Context(), "web"))
	awaitLine(t, s, "web", "up")
}

// A service between two attempts is wanted: it starts with the new spec at once.
func TestReplaceEndsABackoff(t *testing.T) {
	s := newSupervisor(t, nil)
	must(t, s.Add(Spec{Name: "web", Path: "/nowhere/web"}))
	must(t, s.Start(t.Context(), "web"))
	failed := awaitState(t, s, "web", Backoff)
	must(t, s.Replace(testContext(t), inRole("web", "run")))
	if status := awaitState(t, s, "web", Running); status.Restarts < failed.Restarts {
		t.Errorf("restarts %d, before %d", status.Restarts, failed.Restarts)
	}
}

func TestReplaceRefusesWhatCannotBeUsed(t *testing.T) {
	users := fstest.MapFS{"etc/passwd": {Data: []byte("root:x:0:0::/:/none\n")}, "etc/group": {Data: []byte("root:x:0:\n")}}
	s := newSupervisor(t, func(o *Options) { o.Root = users })
	must(t, s.Add(inRole("web", "run"), Spec{Name: "db", Path: "/db", DependsOn: []string{"web"}}))
	must(t, s.Start(t.Context(), "web"))
	before := awaitState(t, s, "web", Running)
	circle, absent := inRole("web", "run"), inRole("web", "run")
	circle.DependsOn, absent.DependsOn = []string{"db"}, []string{"cache"}
	for _, c := range []struct {
		spec Spec
		says string
	}{
		{circle, "in a circle"},
		{absent, "cache, which does not exist"},
		{Spec{Name: "web", Path: "web"}, "not absolute"},
		{Spec{Name: "wbe", Path: "/web"}, `no service "wbe"`},
	} {
		if err := s.Replace(t.Context(), c.spec); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("got %v, want %q", err, c.says)
		}
	}
	s.opts.KeepIdentity = false
	err := s.Replace(t.Context(), Spec{Name: "web", Path: "/web", User: "nobody"})
	s.opts.KeepIdentity = true
	if err == nil || !strings.Contains(err.Error(), `no user "nobody"`) {
		t.Errorf("got %v", err)
	}
	if status, _ := s.Status("web"); status.PID != before.PID {
		t.Errorf("a refused spec changed the service: %+v", status)
	}
	must(t, s.StopAll(testContext(t)))
	if err := s.Replace(t.Context(), inRole("web", "run")); !errors.Is(err, ErrStopping) {
		t.Errorf("after StopAll: %v", err)
	}
}

// Whoever waited for their turn while the service was replaced acts on the one
// that is there: two lives of one service would be two processes.
func TestReplaceTakesTurnsWithStartStopAndRestart(t *testing.T) {
	s := newSupervisor(t, nil)
	must(t, s.Add(inRole("web", "run")))
	must(t, s.Start(t.Context(), "web"))
	ctx := testContext(t)
	var all sync.WaitGroup
	for range 4 {
		for _, act := range []func() error{
			func() error { return s.Replace(ctx, inRole("web", "run")) },
			func() error { return s.Restart(ctx, "web") },
			func() error { return s.Start(ctx, "web") },
			func() error { _, err := s.Usage("web"); return err },
		} {
			all.Go(func() {
				if err := act(); err != nil {
					t.Error(err)
				}
			})
		}
	}
	all.Wait()
	running := awaitState(t, s, "web", Running)
	must(t, s.Stop(ctx, "web"))
	text := lines(t, s, "web")
	if started, ended := strings.Count(text, "[started, "), strings.Count(text, "[stopped: "); started != ended {
		t.Errorf("%d processes were started, %d ended; the last was %d:\n%s", started, ended, running.PID, text)
	}
}
