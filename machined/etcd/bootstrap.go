package etcd

import (
	"context"
	"errors"
)

var (
	// ErrFormed refuses a bootstrap of a node that holds a cluster's data.
	ErrFormed = errors.New("bootstrap refused: this node holds etcd data, so the cluster was bootstrapped before")
	// ErrPending refuses a bootstrap while an earlier one is being done.
	ErrPending = errors.New("bootstrap refused: it was asked for before and is on its way; see osctl health")
	// ErrRemoved refuses a bootstrap of a node that was taken out of a cluster.
	ErrRemoved = errors.New("bootstrap refused: " + removedMessage)
)

// Bootstrap makes this node the first member of a new cluster. It returns once
// that is certain to happen, also after a power cut; the service then starts.
// ErrFormed, ErrPending and ErrRemoved refuse it, and so does what another
// control-plane node runs.
func (s *Service) Bootstrap(ctx context.Context) error {
	if err := s.mayBootstrap(ctx); err != nil {
		return err
	}
	return s.bootstrap("")
}

// mayBootstrap tells why no new cluster can be made here.
func (s *Service) mayBootstrap(ctx context.Context) error {
	s.mu.Lock()
	err := refuseState(s.options.DataDir)
	s.mu.Unlock()
	if err != nil {
		return err
	}
	return refuseNew(s.askOthers(ctx))
}

func refuseState(dir string) error {
	now, err := read(dir)
	if err != nil {
		return err
	}
	return map[state]error{formed: ErrFormed, pending: ErrPending, removed: ErrRemoved}[now]
}

// bootstrap asks for a new cluster, with what is in the named file of the data
// folder, if any.
func (s *Service) bootstrap(snapshot string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := refuseState(s.options.DataDir); err != nil {
		return err
	}
	owner, err := s.owner()
	if err != nil {
		return err
	}
	if err := markPending(s.options.DataDir, snapshot, owner); err != nil {
		return err
	}
	select {
	case <-s.requested: // the data was removed since an earlier bootstrap
	default:
		close(s.requested)
	}
	return nil
}
