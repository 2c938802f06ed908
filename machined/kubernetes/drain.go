package kubernetes

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"
)

// Times of a drain.
const (
	// drainPoll is how often the node's pods are looked at.
	drainPoll = 2 * time.Second
	// drainCall bounds one request.
	drainCall = 10 * time.Second
	// drainSilence is how long no API server may answer before the drain is given
	// up: a dead one must not hold a shutdown up.
	drainSilence = 10 * time.Second
	// tellFirst is when it is told what the drain waits for; each time after it
	// comes twice as late, so that a day's drain does not fill the log.
	tellFirst = 30 * time.Second
)

// ErrAlone says why a node was not drained.
var ErrAlone = errors.New("not drained: no other node is ready and takes pods, so that there is nowhere for them to go")

// Drain cordons this node and evicts its pods, as their disruption budgets
// allow, until none that could run elsewhere is left or timeout has passed; the
// error then names those that are left. tell hears, from this goroutine, what
// happens on the way. Pods of DaemonSets, static ones and those without a
// controller stay: kubelet ends them.
//
// From its call on the node is not uncordoned any more, unless Stay is called.
func (k *Kubernetes) Drain(ctx context.Context, timeout time.Duration, tell func(message string)) error {
	k.mu.Lock()
	k.leaving = true
	registered := k.node.Registered
	k.mu.Unlock()
	if !registered {
		return nil // not since the boot, so that it has no pods
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	alone := false
	err := pollUntil(ctx, drainSilence, func(ctx context.Context) (bool, error) {
		var err error
		if alone, err = k.isAlone(ctx); err == nil && !alone {
			err = k.cordon(ctx)
		}
		return err == nil, err
	})
	if err != nil {
		return fmt.Errorf("cordon the node: %w", err)
	}
	if alone {
		return ErrAlone
	}
	return k.evictAll(ctx, timeout, tell)
}

func (k *Kubernetes) evictAll(ctx context.Context, timeout time.Duration, tell func(string)) error {
	state := drainage{}
	var left []podObject
	told, again := time.Now(), tellFirst
	err := pollUntil(ctx, drainSilence, func(ctx context.Context) (bool, error) {
		pods, err := k.podsHere(ctx)
		if err != nil {
			return false, err
		}
		var due []podObject
		left, due = state.next(pods, time.Now())
		for _, pod := range due {
			answer := k.evict(ctx, pod)
			if ctx.Err() != nil {
				return false, nil
			}
			if message := state.note(pod, answer, time.Now()); message != "" {
				tell(message)
			}
		}
		if len(left) > 0 && time.Since(told) >= again {
			tell("waiting for " + state.describe(left))
			told, again = time.Now(), 2*again
		}
		return len(left) == 0, nil
	})
	switch {
	case err == nil:
		return nil
	case len(left) == 0:
		return fmt.Errorf("look for the node's pods: %w", err)
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("pods left after %s: %s", timeout, state.describe(left))
	}
	return fmt.Errorf("%w; pods left: %s", err, state.describe(left))
}

// evict asks for a pod's end. Its UID keeps a pod of the same name from being
// taken for it that a StatefulSet made elsewhere meanwhile.
func (k *Kubernetes) evict(ctx context.Context, pod podObject) error {
	ctx, cancel := context.WithTimeout(ctx, drainCall)
	defer cancel()
	path := fmt.Sprintf("/api/v1/namespaces/%s/pods/%s/eviction", url.PathEscape(pod.Metadata.Namespace), url.PathEscape(pod.Metadata.Name))
	return k.api.send(ctx, http.MethodPost, path, "application/json", map[string]any{
		"apiVersion": "policy/v1",
		"kind":       "Eviction",
		"metadata":   map[string]any{"namespace": pod.Metadata.Namespace, "name": pod.Metadata.Name},
		"deleteOptions": map[string]any{
			"preconditions": map[string]any{"uid": pod.Metadata.UID},
		},
	})
}

// pollUntil asks until it is done or ctx ends, but gives up once it has had no
// answer for as long as silence.
func pollUntil(ctx context.Context, silence time.Duration, once func(context.Context) (done bool, err error)) error {
	answered := time.Now()
	for {
		done, err := once(ctx)
		if err == nil {
			answered = time.Now()
		}
		switch {
		case done:
			return nil
		case err != nil && time.Since(answered) >= silence:
			return fmt.Errorf("given up after %s: %w", silence, err)
		case !pause(ctx, drainPoll):
			return ctx.Err()
		}
	}
}
