package supervise

import (
	"context"
	"fmt"
	"slices"
)

// Replace puts another spec in the place of the one of its name: the service is
// stopped if it runs, and started again if it was wanted. It keeps its log and
// its count of restarts. A spec that cannot be used changes nothing.
func (s *Supervisor) Replace(ctx context.Context, spec Spec) error {
	old, release, err := s.take(ctx, spec.Name)
	if err != nil {
		return err
	}
	defer release()
	if err := s.checkReplacement(spec); err != nil {
		return fmt.Errorf("replace service %s: %w", spec.Name, err)
	}
	wanted := s.wanted(old)
	if err := s.stop(ctx, old); err != nil {
		return fmt.Errorf("replace service %s: %w", spec.Name, err)
	}
	svc, err := s.swap(old, spec.withDefaults())
	if err != nil {
		err, svc = fmt.Errorf("replace service %s: %w", spec.Name, err), old
	}
	if !wanted {
		return err
	}
	if failed := s.start(svc); err == nil {
		err = failed
	}
	return err
}

// wanted tells whether a service is to run, or to run again.
func (s *Supervisor) wanted(svc *service) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return svc.status.State != Stopped && svc.status.State != Finished
}

// checkReplacement finds what would be wrong with a spec, before the service is
// stopped for it.
func (s *Supervisor) checkReplacement(spec Spec) error {
	if err := spec.validate(); err != nil {
		return err
	}
	if !s.opts.KeepIdentity {
		if _, err := LookupUser(s.opts.Root, spec.User); err != nil {
			return err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopping {
		return ErrStopping
	}
	_, err := startLevels(s.withSpec(spec))
	return err
}

// withSpec are all specs with one replaced. The lock is held.
func (s *Supervisor) withSpec(spec Spec) []Spec {
	all := slices.Clone(s.specs)
	all[slices.IndexFunc(all, func(one Spec) bool { return one.Name == spec.Name })] = spec
	return all
}

// swap makes a new service of a stopped one's name. Who holds the old one finds
// it stopped for good: nothing of it changes any more.
func (s *Supervisor) swap(old *service, spec Spec) (*service, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopping {
		return nil, ErrStopping
	}
	all := s.withSpec(spec)
	levels, err := startLevels(all)
	if err != nil {
		return nil, err
	}
	svc, err := s.newService(spec)
	if err != nil {
		return nil, err
	}
	if svc.cgroup != nil && spec.MemoryMax == 0 && old.spec.MemoryMax > 0 {
		if err := writeControl(svc.cgroup.path, "memory.max", "max"); err != nil {
			return nil, err
		}
	}
	svc.control = old.control
	svc.status.Restarts = old.status.Restarts
	s.services[spec.Name] = svc
	s.specs, s.levels = all, levels
	return svc, nil
}
