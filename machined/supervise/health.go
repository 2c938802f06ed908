package supervise

import (
	"context"
	"fmt"
	"time"
)

// Probes of a starting service come at least this often, and at first more
// often, so that what depends on it starts without delay.
const (
	probeFirst = 100 * time.Millisecond
	probeMax   = time.Second
)

// starvedPatience is how many times as long a service that waits for CPU time may
// fail its checks. It does not hang, and a restart, which costs more than it has
// to do, would take yet more from the others.
const starvedPatience = 5

// checkup counts a service's probes and judges it. It acts on nothing.
type checkup struct {
	check    HealthCheck
	began    time.Time
	probes   int // while starting
	healthy  bool
	failures int // in a row
}

// verdict is what follows a probe.
type verdict struct {
	health Health
	fatal  error         // restart the service because of it
	next   time.Duration // until the next probe
}

// judge takes one probe's result. starved tells whether the service waits for CPU
// time; it is asked only when that matters.
func (c *checkup) judge(result error, now time.Time, starved func() bool) verdict {
	if result == nil {
		c.healthy, c.failures = true, 0
		return verdict{health: Healthy, next: c.check.Interval}
	}
	c.failures++
	if !c.healthy {
		c.probes++
		v := verdict{health: HealthUnknown, next: startingDelay(c.probes)}
		took := now.Sub(c.began)
		if took >= c.check.StartTimeout && (took >= starvedPatience*c.check.StartTimeout || !starved()) {
			v.fatal = fmt.Errorf("not healthy within %s of its start: %w", c.check.StartTimeout, result)
		}
		return v
	}
	if c.failures < c.check.Failures {
		// Ask again soon: one lost answer should not cost whole intervals.
		return verdict{health: Healthy, next: min(probeMax, c.check.Interval)}
	}
	if c.failures < starvedPatience*c.check.Failures && starved() {
		return verdict{health: Unhealthy, next: c.check.Interval}
	}
	return verdict{
		health: Unhealthy,
		fatal:  fmt.Errorf("unhealthy, %d checks in a row: %w", c.failures, result),
	}
}

// startingDelay grows by half from probeFirst to probeMax.
func startingDelay(probes int) time.Duration {
	delay := probeFirst
	for range probes - 1 {
		delay += delay / 2
		if delay >= probeMax {
			return probeMax
		}
	}
	return delay
}

// watch checks a running process until it must be restarted, which is its
// error, or until ctx ends.
func (s *Supervisor) watch(ctx context.Context, svc *service) error {
	if svc.spec.Health == nil {
		s.report(ctx, svc, verdict{health: Healthy}, nil)
		<-ctx.Done()
		return nil
	}
	c := checkup{check: *svc.spec.Health, began: time.Now()}
	for {
		result := probe(ctx, svc.spec.Name, c.check)
		if ctx.Err() != nil {
			return nil
		}
		v := c.judge(result, time.Now(), svc.cgroup.starved)
		s.report(ctx, svc, v, result)
		if v.fatal != nil {
			return v.fatal
		}
		if !pause(ctx, v.next) {
			return nil
		}
	}
}

func probe(ctx context.Context, name string, check HealthCheck) error {
	ctx, cancel := context.WithTimeout(ctx, check.Timeout)
	defer cancel()
	return catch(ctx, name+" health check", check.Probe)
}

// starvedMessage is said of a service that is unhealthy and not restarted.
const starvedMessage = "it waits for CPU time: "

// report shows a verdict in the service's status. ctx is the watch's: once it
// has ended, the state is no longer the watch's to change.
func (s *Supervisor) report(ctx context.Context, svc *service, v verdict, result error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if ctx.Err() != nil {
		return
	}
	switch {
	case svc.status.State == Starting && v.health == Healthy:
		s.transition(svc, Running, "")
	case svc.status.State == Starting:
		svc.status.Message = result.Error() // changes at every probe: nothing to announce
	case svc.status.State == Running && v.fatal == nil && result != nil && v.health == Unhealthy:
		s.setHealth(svc, Unhealthy, starvedMessage+result.Error())
	case svc.status.State == Running && v.health == Healthy && result != nil:
		svc.status.Message = "last check: " + result.Error()
	case svc.status.State == Running && v.health == Healthy:
		s.setHealth(svc, Healthy, "")
		svc.status.Message = ""
	case svc.status.State == Running:
		s.setHealth(svc, v.health, result.Error())
	}
}
