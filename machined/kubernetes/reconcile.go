package kubernetes

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"time"
)

// Times of the reconciliation of manifests.
const (
	reconcileEvery   = 10 * time.Minute
	reconcileTimeout = time.Minute // one round's
)

// Pauses after a failure. An API server that answers errors, as all do while
// etcd has no quorum, costs little to be asked; what waits for it (flannel, the
// end of a cordon) should not wait long once it can do again.
const (
	retryFirst = time.Second
	retryMax   = 15 * time.Second
)

var errNotYet = errors.New("not applied yet: the Kubernetes API server is not ready")

// Reconcile keeps the built-in manifests in the cluster until ctx ends: as soon
// as the API server answers, then every ten minutes, sooner after a failure. On
// a first boot the server answers half a minute before it is ready under
// emulation, and what the manifests grant is waited for.
func (k *Kubernetes) Reconcile(ctx context.Context) {
	delay := retryFirst
	for {
		if k.serving.wait(ctx) != nil {
			return
		}
		applied, err := k.reconcile(ctx)
		k.mu.Lock()
		k.reconciled = err
		k.mu.Unlock()
		switch {
		case err == nil:
			delay = retryFirst
			if applied > 0 {
				k.options.Log.Info("built-in manifests applied", slog.Int("count", applied))
			}
			if !pause(ctx, reconcileEvery) {
				return
			}
		default:
			k.unreachable(err)
			k.options.Log.Warn("built-in manifests not applied; trying again", slog.Any("error", err), slog.Duration("after", delay))
			if !pause(ctx, delay) {
				return
			}
			delay = min(2*delay, retryMax)
		}
	}
}

// reconcile observes with one list per kind, and writes what differs only: a
// first boot has better things to do than to be asked for each object.
func (k *Kubernetes) reconcile(ctx context.Context) (applied int, err error) {
	ctx, cancel := context.WithTimeout(ctx, reconcileTimeout)
	defer cancel()
	live, err := k.observe(ctx)
	if err != nil {
		return 0, err
	}
	var errs []error
	granted := true
	for _, each := range pending(k.manifests, live) {
		if err := k.apply(ctx, each, live); err != nil {
			errs = append(errs, fmt.Errorf("apply %s: %w", each, err))
			granted = granted && each.namespace != ""
			continue
		}
		applied++
	}
	// Rights have no namespace. What waits for them need not wait until the API
	// server has made those that it begins with.
	if granted {
		k.granted.reach()
	}
	return applied, errors.Join(errs...)
}

func (k *Kubernetes) apply(ctx context.Context, each manifest, live map[string]any) error {
	if seeded[each.kind] {
		return k.api.send(ctx, http.MethodPost, kinds[each.kind].all()+"?fieldManager="+managedBy, "application/json", seed(each, live))
	}
	// Server-side apply: what others added stays, what they changed of ours
	// becomes ours again.
	path := each.path() + "?fieldManager=" + managedBy + "&force=true"
	return k.api.send(ctx, http.MethodPatch, path, "application/apply-patch+yaml", each.object)
}

// observe returns the live objects with our label, of seeded kinds all, by path.
func (k *Kubernetes) observe(ctx context.Context) (map[string]any, error) {
	live := map[string]any{}
	for name, kind := range kinds {
		var list struct {
			Items []map[string]any `json:"items"`
		}
		selector := "?labelSelector=" + url.QueryEscape(managedLabel+"="+managedBy)
		if seeded[name] {
			selector = "" // someone may have taken the label off
		}
		if err := k.api.get(ctx, kind.all()+selector, &list); err != nil {
			return nil, fmt.Errorf("list what the cluster holds: %w", err)
		}
		for _, item := range list.Items {
			metadata, _ := item["metadata"].(map[string]any)
			name, _ := metadata["name"].(string)
			namespace, _ := metadata["namespace"].(string)
			live[kind.path(namespace, name)] = item
		}
	}
	return live, nil
}

// pause waits, unless ctx ends first.
func pause(ctx context.Context, duration time.Duration) bool {
	timer := time.NewTimer(duration)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
