package supervise

import (
	"context"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"sync"
)

// Options are what a Supervisor needs from the rest of machined.
type Options struct {
	Log *slog.Logger
	// CgroupRoot is the directory, below the cgroup v2 mount, that holds one
	// group per service. Empty: no cgroups, for tests.
	CgroupRoot string
	// Root holds etc/passwd and etc/group; nil is the running system's root.
	Root fs.FS
	// Reaper must know which processes are the supervisor's; nil if nothing
	// reaps in this process.
	Reaper *Reaper
	// OnChange hears of every change of a service, in order. It must not block
	// nor call the supervisor.
	OnChange func(Status)
	// Mirror, if set, gets every line of every service too. It must not block.
	Mirror func(service string, line []byte)
	// Strict makes an illegal state transition a panic: for tests.
	Strict bool
	// KeepIdentity runs every service as who the supervisor is, with all its
	// privileges: for tests without root.
	KeepIdentity bool
}

// Supervisor runs services. All its methods may be called at any time from
// any goroutine.
type Supervisor struct {
	opts Options
	// ctx is the life of all services; StopAll ends it.
	ctx    context.Context
	cancel context.CancelFunc

	// starts lets one process start at a time: the limit of open files that it
	// inherits is PID 1's own at that moment.
	starts sync.Mutex

	mu       sync.Mutex // guards all below, and every service's changing part
	services map[string]*service
	specs    []Spec // in start order
	levels   [][]string
	logs     map[string]*Log
	changed  chan struct{} // closed and replaced at every change of a service
	stopping bool
}

// service is a spec and what became of it. Replace puts another in its place,
// with the same log and control.
type service struct {
	spec   Spec
	user   User
	cgroup *cgroup
	log    *Log
	// control is held, as its one token, by the one who starts, stops or
	// replaces.
	control chan struct{}

	// Guarded by Supervisor.mu.
	status  Status
	cancel  context.CancelFunc // ends the life goroutine
	done    chan struct{}      // closed at its end; nil before the first start
	process *process           // the one that runs, or nil
	stuck   int                // process that did not end when killed, or 0
}

// New makes a supervisor without services.
func New(opts Options) (*Supervisor, error) {
	if opts.Root == nil {
		opts.Root = os.DirFS("/")
	}
	if opts.CgroupRoot != "" {
		if err := makeCgroupRoot(opts.CgroupRoot); err != nil {
			return nil, err
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	return &Supervisor{
		opts: opts, ctx: ctx, cancel: cancel,
		services: map[string]*service{},
		logs:     map[string]*Log{},
		changed:  make(chan struct{}),
	}, nil
}

// Add makes services known, stopped. Their dependencies must be among them or
// have been added before.
func (s *Supervisor) Add(specs ...Spec) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := slices.Clone(s.specs)
	for _, spec := range specs {
		if err := spec.validate(); err != nil {
			return err
		}
		all = append(all, spec.withDefaults())
	}
	levels, err := startLevels(all)
	if err != nil {
		return err
	}
	added := map[string]*service{}
	for _, spec := range all[len(s.specs):] {
		svc, err := s.newService(spec)
		if err != nil {
			return fmt.Errorf("service %s: %w", spec.Name, err)
		}
		added[spec.Name] = svc
	}
	for name, svc := range added {
		s.services[name] = svc
	}
	s.specs, s.levels = all, levels
	return nil
}

func (s *Supervisor) newService(spec Spec) (*service, error) {
	svc := &service{spec: spec, log: s.logOf(spec.Name), control: make(chan struct{}, 1)}
	svc.status = Status{
		Name: spec.Name, State: Stopped, Health: HealthUnknown,
		DependsOn: slices.Clone(spec.DependsOn), Essential: spec.Essential,
	}
	var err error
	if !s.opts.KeepIdentity {
		if svc.user, err = LookupUser(s.opts.Root, spec.User); err != nil {
			return nil, err
		}
	}
	if s.opts.CgroupRoot != "" {
		svc.cgroup, err = makeCgroup(s.opts.CgroupRoot, spec)
	}
	return svc, err
}

// logOf returns the log of that name, made if need be. The lock is held.
func (s *Supervisor) logOf(name string) *Log {
	if s.logs[name] == nil {
		var mirror func([]byte)
		if s.opts.Mirror != nil {
			mirror = func(line []byte) { s.opts.Mirror(name, line) }
		}
		s.logs[name] = NewLog(mirror)
	}
	return s.logs[name]
}

// AddLog makes a log that belongs to no service readable like a service's:
// machined's own.
func (s *Supervisor) AddLog(name string, log *Log) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.logs[name] = log
}

// Log returns the log of a service or of AddLog.
func (s *Supervisor) Log(name string) (*Log, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if log, ok := s.logs[name]; ok {
		return log, nil
	}
	unknown := s.unknown(name)
	for known := range s.logs {
		if !slices.Contains(unknown.Known, known) {
			unknown.Known = append(unknown.Known, known)
		}
	}
	return nil, unknown
}

// List returns every service's status in start order.
func (s *Supervisor) List() []Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []Status
	for _, level := range s.levels {
		for _, name := range level {
			list = append(list, s.services[name].status)
		}
	}
	return list
}

// Status returns one service's status.
func (s *Supervisor) Status(name string) (Status, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	svc, ok := s.services[name]
	if !ok {
		return Status{}, s.unknown(name)
	}
	return svc.status, nil
}

// Usage returns what a service uses; zeros without cgroups.
func (s *Supervisor) Usage(name string) (Usage, error) {
	svc, err := s.find(name)
	if err != nil || svc.cgroup == nil {
		return Usage{}, err
	}
	return svc.cgroup.usage(), nil
}

func (s *Supervisor) find(name string) (*service, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	svc, ok := s.services[name]
	if !ok {
		return nil, s.unknown(name)
	}
	return svc, nil
}

// unknown is the error for a name that is no service's. The lock is held.
func (s *Supervisor) unknown(name string) *UnknownServiceError {
	unknown := &UnknownServiceError{Name: name}
	for _, level := range s.levels {
		unknown.Known = append(unknown.Known, level...)
	}
	return unknown
}
