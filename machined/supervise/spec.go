package supervise

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"
)

// Defaults of a Spec's and a HealthCheck's zero durations and counts.
const (
	DefaultStopTimeout   = 10 * time.Second
	DefaultInterval      = 10 * time.Second
	DefaultProbeTimeout  = 5 * time.Second
	DefaultFailures      = 3
	DefaultStartTimeout  = 2 * time.Minute
	defaultServicePath   = "PATH=/usr/bin"
	maxServiceNameLength = 64
)

// Spec describes one service. It is fixed once added, until Replace.
type Spec struct {
	// Name is how the supervisor and `osctl services` call it; also the name
	// of its cgroup.
	Name string
	// DependsOn names the services that must be healthy, or finished, before
	// this one starts. A dependency that fails later does not stop this one.
	DependsOn []string
	// StopsBefore names services that this one does not wait for at its start,
	// but that stop only after it.
	StopsBefore []string
	// Gate, if set, blocks in state "waiting" until the start is allowed.
	Gate func(ctx context.Context) error
	// GateMessage says what Gate waits for and what to do about it.
	GateMessage string
	// Prepare, if set, runs before every start, to render files. Its error
	// means back off and try again.
	Prepare func(ctx context.Context) error

	// Path is the program's absolute path, which is also its argv[0].
	Path string
	// Args are the arguments without argv[0].
	Args []string
	// Env is added to PATH and HOME as KEY=VALUE.
	Env []string

	// User runs the service; "" is root.
	User string
	// Capabilities are the only ones the service keeps ("CAP_NET_ADMIN"), as
	// ambient and bounding set.
	Capabilities []string
	// AllCapabilities leaves a root service all of them: it makes containers.
	AllCapabilities bool
	// AllowNewPrivs leaves no_new_privs off: its containers may hold setuid
	// programs.
	AllowNewPrivs bool
	// Delegate says that the service's children outlive it (containerd's
	// shims) or have cgroups of their own, so that only its main process is
	// ever killed.
	Delegate bool
	// MemoryMax is the cgroup's memory.max in bytes; 0 is no limit.
	MemoryMax int64
	// CPUWeight is the cgroup's cpu.weight, 1 to 10000: its share when CPU time
	// is short, and how soon it runs when it wakes; 0 leaves the kernel's 100.
	CPUWeight int
	// OOMScoreAdj biases the kernel's out-of-memory choice, -1000 to 1000.
	OOMScoreAdj int
	// NoFile is the limit of open files; 0 leaves PID 1's own.
	NoFile uint64

	// Health, if nil, makes the service healthy as soon as it runs.
	Health *HealthCheck
	// Oneshot services end: exit status 0 is "finished", healthy for those who
	// depend on it.
	Oneshot bool
	// StopTimeout is the time from SIGTERM to SIGKILL.
	StopTimeout time.Duration
	// Essential services can be restarted but not stopped through the API:
	// the API itself needs them.
	Essential bool
}

// HealthCheck asks a service whether it works.
type HealthCheck struct {
	// Probe returns nil when the service works. Its context ends after Timeout.
	Probe func(ctx context.Context) error
	// Interval between probes once healthy. While starting, probes come more
	// often, so that dependents start without delay.
	Interval time.Duration
	// Timeout of one probe.
	Timeout time.Duration
	// Failures in a row that make a healthy service unhealthy and restart it. One
	// that waits for CPU time is restarted after five times as many, and given
	// five times StartTimeout.
	Failures int
	// StartTimeout is how long the first healthy answer may take before the
	// service is restarted.
	StartTimeout time.Duration
}

// withDefaults fills zero values in.
func (s Spec) withDefaults() Spec {
	if s.StopTimeout == 0 {
		s.StopTimeout = DefaultStopTimeout
	}
	if s.Health == nil {
		return s
	}
	health := *s.Health
	if health.Interval == 0 {
		health.Interval = DefaultInterval
	}
	if health.Timeout == 0 {
		health.Timeout = DefaultProbeTimeout
	}
	if health.Failures == 0 {
		health.Failures = DefaultFailures
	}
	if health.StartTimeout == 0 {
		health.StartTimeout = DefaultStartTimeout
	}
	s.Health = &health
	return s
}

// validate finds mistakes of the code that made the spec.
func (s Spec) validate() error {
	var errs []error
	if s.Name == "" || len(s.Name) > maxServiceNameLength || filepath.Base(s.Name) != s.Name {
		errs = append(errs, errors.New("the name cannot name a cgroup"))
	}
	if !filepath.IsAbs(s.Path) {
		errs = append(errs, fmt.Errorf("path %q is not absolute", s.Path))
	}
	if s.Health != nil && s.Health.Probe == nil {
		errs = append(errs, errors.New("the health check has no probe"))
	}
	if _, err := capabilityNumbers(s.Capabilities); err != nil {
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("service %q: %w", s.Name, err)
	}
	return nil
}
