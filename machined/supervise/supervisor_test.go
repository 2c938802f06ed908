package supervise

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestServiceRunsAndStops(t *testing.T) {
	s := newSupervisor(t, nil)
	must(t, s.Add(inRole("web", "run")))
	must(t, s.Start(t.Context(), "web"))
	must(t, s.WaitHealthy(testContext(t), "web"))
	status := awaitState(t, s, "web", Running)
	if status.PID == 0 || status.Health != Healthy {
		t.Errorf("running service: %+v", status)
	}
	must(t, s.Stop(testContext(t), "web"))
	if status, _ := s.Status("web"); status.State != Stopped || status.PID != 0 {
		t.Errorf("stopped service: %+v", status)
	}
	if unix.Kill(status.PID, 0) == nil {
		t.Error("the process is still there")
	}
	if text := lines(t, s, "web"); !strings.Contains(text, "ended by signal: terminated") {
		t.Errorf("log does not say how it ended:\n%s", text)
	}
}

func TestKilledServiceComesBack(t *testing.T) {
	s := newSupervisor(t, nil)
	must(t, s.Add(inRole("web", "run")))
	must(t, s.Start(t.Context(), "web"))
	first := awaitState(t, s, "web", Running)
	must(t, unix.Kill(first.PID, unix.SIGKILL))
	second := await(t, s, "web", "back", func(status Status) bool {
		return status.State == Running && status.Restarts == 1
	})
	if second.PID == first.PID {
		t.Error("same process")
	}
}

func TestFailingServiceBacksOffAndSaysWhy(t *testing.T) {
	s := newSupervisor(t, nil)
	must(t, s.Add(inRole("bad", "exit-3")))
	must(t, s.Start(t.Context(), "bad"))
	status := awaitState(t, s, "bad", Backoff)
	if want := "exited with status 3; starting again in 500ms"; status.Message != want {
		t.Errorf("message %q, want %q", status.Message, want)
	}
	if text := lines(t, s, "bad"); !strings.Contains(text, "leaving") {
		t.Errorf("the last line is lost:\n%s", text)
	}
	must(t, s.Stop(testContext(t), "bad")) // out of the backoff, at once
}

func TestMissingProgram(t *testing.T) {
	s := newSupervisor(t, nil)
	must(t, s.Add(Spec{Name: "gone", Path: "/nowhere/gone"}))
	must(t, s.Start(t.Context(), "gone"))
	if status := awaitState(t, s, "gone", Backoff); !strings.Contains(status.Message, "/nowhere/gone") {
		t.Errorf("message does not name the program: %q", status.Message)
	}
}

func TestDependencies(t *testing.T) {
	s := newSupervisor(t, nil)
	asked, open := make(chan struct{}), make(chan struct{})
	gated := inRole("etcd", "run")
	gated.GateMessage = "waiting for osctl bootstrap"
	gated.Gate = func(ctx context.Context) error {
		for news := asked; ; {
			select {
			case <-news:
				TellWaiting(ctx, "nobody answers")
				news = nil
			case <-open:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	}
	user := inRole("apiserver", "run")
	user.DependsOn = []string{"etcd", "setup"}
	setup := inRole("setup", "exit-0")
	setup.Oneshot = true
	must(t, s.Add(user, gated, setup))
	must(t, s.Start(t.Context(), "apiserver", "etcd", "setup"))

	awaitState(t, s, "setup", Finished)
	await(t, s, "etcd", "at its gate", func(status Status) bool { return status.Message == gated.GateMessage })
	close(asked)
	await(t, s, "etcd", "told", func(status Status) bool { return status.Message == "nobody answers" })
	await(t, s, "apiserver", "waiting for etcd", func(status Status) bool {
		return status.State == Waiting && status.Message == "waiting for etcd (waiting)"
	})
	close(open)
	must(t, s.WaitHealthy(testContext(t), "apiserver", "etcd", "setup"))
}

func TestUnhealthyServiceIsRestarted(t *testing.T) {
	s := newSupervisor(t, nil)
	var sick atomic.Bool
	spec := inRole("web", "run")
	spec.Health = &HealthCheck{
		Interval: 10 * time.Millisecond, Failures: 2,
		Probe: func(context.Context) error {
			if sick.Load() {
				return errors.New("no answer")
			}
			return nil
		},
	}
	must(t, s.Add(spec))
	must(t, s.Start(t.Context(), "web"))
	awaitState(t, s, "web", Running)
	sick.Store(true)
	status := awaitState(t, s, "web", Backoff)
	if !strings.Contains(status.Message, "unhealthy, 2 checks in a row: no answer") {
		t.Errorf("message %q", status.Message)
	}
	sick.Store(false)
	must(t, s.WaitHealthy(testContext(t), "web"))
}

func TestPanicsOfCallbacksAreErrors(t *testing.T) {
	s := newSupervisor(t, nil)
	spec := inRole("web", "run")
	spec.Prepare = func(context.Context) error { panic("bug") }
	must(t, s.Add(spec))
	must(t, s.Start(t.Context(), "web"))
	if status := awaitState(t, s, "web", Backoff); !strings.Contains(status.Message, "panic: bug") {
		t.Errorf("message %q", status.Message)
	}
}

func TestStubbornServiceIsKilled(t *testing.T) {
	s := newSupervisor(t, nil)
	spec := inRole("web", "stubborn")
	spec.StopTimeout = 50 * time.Millisecond
	must(t, s.Add(spec))
	must(t, s.Start(t.Context(), "web"))
	awaitLine(t, s, "web", "up") // it ignores SIGTERM from here on
	must(t, s.Stop(testContext(t), "web"))
	if text := lines(t, s, "web"); !strings.Contains(text, "signal: killed") {
		t.Errorf("not killed:\n%s", text)
	}
}

func awaitLine(t *testing.T, s *Supervisor, name, want string) {
	t.Helper()
	log, err := s.Log(name)
	must(t, err)
	found := errors.New("found")
	err = log.Read(testContext(t), -1, true, func(line Line) error {
		if string(line.Text) == want {
			return found
		}
		return nil
	})
	if !errors.Is(err, found) {
		t.Fatalf("no line %q: %v; there are:\n%s", want, err, lines(t, s, name))
	}
}

func TestRestartAndEssential(t *testing.T) {
	s := newSupervisor(t, nil)
	spec := inRole("apid", "run")
	spec.Essential = true
	must(t, s.Add(spec))
	must(t, s.Start(t.Context(), "apid"))
	first := awaitState(t, s, "apid", Running)
	if err := s.Stop(t.Context(), "apid"); !errors.Is(err, ErrEssential) {
		t.Errorf("stop of an essential service: %v", err)
	}
	must(t, s.Restart(testContext(t), "apid"))
	second := awaitState(t, s, "apid", Running)
	if second.PID == first.PID {
		t.Error("restart kept the process")
	}
}

func TestStopAllGoesBackwards(t *testing.T) {
	var stopped []string
	s := newSupervisor(t, func(o *Options) {
		o.OnChange = func(status Status) { // called under one lock
			if status.State == Stopped {
				stopped = append(stopped, status.Name)
			}
		}
	})
	b, c := inRole("b", "run"), inRole("c", "run")
	b.DependsOn, c.DependsOn = []string{"a"}, []string{"b"}
	must(t, s.Add(inRole("a", "run"), b, c))
	must(t, s.Start(t.Context(), "a", "b", "c"))
	must(t, s.WaitHealthy(testContext(t), "c"))
	must(t, s.StopAll(testContext(t)))
	if want := []string{"c", "b", "a"}; !slices.Equal(stopped, want) {
		t.Errorf("stopped in order %v, want %v", stopped, want)
	}
	if err := s.Start(t.Context(), "a"); !errors.Is(err, ErrStopping) {
		t.Errorf("start after StopAll: %v", err)
	}
}

func TestUnknownServiceNamesTheOthers(t *testing.T) {
	s := newSupervisor(t, nil)
	must(t, s.Add(inRole("web", "run"), inRole("db", "run")))
	var unknown *UnknownServiceError
	if err := s.Start(t.Context(), "wbe"); !errors.As(err, &unknown) || !slices.Equal(unknown.Known, []string{"web", "db"}) {
		t.Errorf("start of an unknown service: %v", err)
	}
	if _, err := s.Log("wbe"); !errors.As(err, &unknown) {
		t.Errorf("log of an unknown service: %v", err)
	}
}

func TestIllegalTransitionPanicsInTests(t *testing.T) {
	s := newSupervisor(t, nil)
	must(t, s.Add(inRole("web", "run")))
	defer func() {
		if recover() == nil {
			t.Error("stopped -> running was let through")
		}
	}()
	s.enter(s.services["web"], Running, "")
}
