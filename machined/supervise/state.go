package supervise

import (
	"fmt"
	"log/slog"
	"slices"
	"time"
)

// State is where a service is in its life. The words are the API's.
type State string

// The states of a service.
const (
	// Stopped: not wanted; nothing runs.
	Stopped State = "stopped"
	// Waiting: wanted; a dependency or the gate is not there yet.
	Waiting State = "waiting"
	// Starting: being prepared, or running and not yet healthy.
	Starting State = "starting"
	// Running: the process runs, and was healthy at least once.
	Running State = "running"
	// Stopping: asked to end.
	Stopping State = "stopping"
	// Backoff: ended by itself or unhealthy; starts again after a delay.
	Backoff State = "backoff"
	// Finished: a oneshot service that ended well.
	Finished State = "finished"
)

// transitions lists where each state may lead.
var transitions = map[State][]State{
	Stopped:  {Waiting},
	Waiting:  {Starting, Backoff, Stopped},
	Starting: {Running, Stopping, Backoff, Finished, Stopped},
	// Stopped: it ended by itself in the moment it was asked to.
	Running:  {Stopping, Backoff, Finished, Stopped},
	Stopping: {Stopped, Backoff},
	Backoff:  {Waiting, Stopped},
	Finished: {Waiting},
}

// Health is what the service's check says.
type Health string

// The healths of a service.
const (
	HealthUnknown Health = "unknown"
	Healthy       Health = "healthy"
	Unhealthy     Health = "unhealthy"
)

// Status is a service as seen at one moment.
type Status struct {
	Name      string
	State     State
	Health    Health
	Message   string    // why, for people
	Since     time.Time // when State was entered
	PID       int       // 0 when no process runs
	Restarts  int       // starts after it ended by itself
	DependsOn []string
	Essential bool
}

// Ready reports whether those who depend on the service may start.
func (s Status) Ready() bool {
	return s.State == Finished || (s.State == Running && s.Health == Healthy)
}

// transition is the only place where a service changes state. The supervisor's
// lock is held.
func (s *Supervisor) transition(svc *service, to State, message string) {
	from := svc.status.State
	if !slices.Contains(transitions[from], to) {
		if s.opts.Strict {
			panic(fmt.Sprintf("service %s: illegal transition from %s to %s (%s)", svc.spec.Name, from, to, message))
		}
		// The state is a report of what happened: refusing it would make it wrong.
		s.opts.Log.Error("illegal service transition", "service", svc.spec.Name, "from", string(from), "to", string(to))
	}
	svc.status.State = to
	svc.status.Message = message
	svc.status.Since = time.Now()
	switch to {
	case Running:
		svc.status.Health = Healthy
	case Starting, Stopping:
		svc.status.Health = HealthUnknown
	default:
		svc.status.Health = HealthUnknown
		svc.status.PID = 0
	}
	if to == Backoff {
		svc.status.Restarts++
	}
	s.announce(svc)
	level := slog.LevelInfo
	switch to {
	case Waiting, Starting:
		level = slog.LevelDebug
	case Backoff:
		level = slog.LevelWarn
	}
	s.opts.Log.Log(s.ctx, level, svc.spec.Name+" "+string(to), "why", message)
}

// setMessage changes only why a service is in its state. The lock is held.
func (s *Supervisor) setMessage(svc *service, message string) {
	if svc.status.Message == message {
		return
	}
	svc.status.Message = message
	s.announce(svc)
}

// setHealth records what the check said. The lock is held.
func (s *Supervisor) setHealth(svc *service, health Health, message string) {
	if svc.status.Health == health {
		return
	}
	svc.status.Health, svc.status.Message = health, message
	s.announce(svc)
}

// announce wakes everyone who waits for a change. The lock is held, so that
// OnChange sees changes in the order in which they happened.
func (s *Supervisor) announce(svc *service) {
	close(s.changed)
	s.changed = make(chan struct{})
	if s.opts.OnChange != nil {
		s.opts.OnChange(svc.status)
	}
}
