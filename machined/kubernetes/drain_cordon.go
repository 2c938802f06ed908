package kubernetes

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"
)

// cordonedBy marks a node that was cordoned because it went down. One that an
// administrator cordoned has no such mark, and stays cordoned after a reboot.
const cordonedBy = "keelson.dev/cordoned-by"

const byShutdown = "shutdown"

// writeTries is how often a change of the Node is tried that others were faster
// with: kubelet and the controllers write to it too.
const writeTries = 5

func (k *Kubernetes) nodePath() string {
	return "/api/v1/nodes/" + url.PathEscape(k.options.Hostname)
}

// cordon keeps new pods from this node, unless it is cordoned already.
func (k *Kubernetes) cordon(ctx context.Context) error {
	k.cordoning.Lock()
	defer k.cordoning.Unlock()
	return k.changeNode(ctx, func(node nodeObject) map[string]any {
		if node.Spec.Unschedulable {
			return nil
		}
		return map[string]any{
			"metadata": map[string]any{"annotations": map[string]any{cordonedBy: byShutdown}},
			"spec":     map[string]any{"unschedulable": true},
		}
	})
}

// uncordon takes back what cordon did before the reboot, once the node is Ready
// again.
func (k *Kubernetes) uncordon(ctx context.Context, node nodeObject) error {
	k.cordoning.Lock()
	defer k.cordoning.Unlock()
	k.mu.Lock()
	leaving := k.leaving
	k.mu.Unlock()
	if leaving || node.Metadata.Annotations[cordonedBy] == "" || !node.node(k.started).Ready {
		return nil
	}
	err := k.changeNode(ctx, func(node nodeObject) map[string]any {
		if node.Metadata.Annotations[cordonedBy] == "" {
			return nil
		}
		return map[string]any{
			"metadata": map[string]any{"annotations": map[string]any{cordonedBy: nil}},
			"spec":     map[string]any{"unschedulable": nil},
		}
	})
	if err != nil {
		return fmt.Errorf("let pods onto the node again: %w", err)
	}
	k.options.Log.Info("the node takes pods again")
	return nil
}

// Stay takes a Drain back, of a node that does not go down after all: it takes pods
// again, if it was cordoned for that.
func (k *Kubernetes) Stay(ctx context.Context) error {
	k.mu.Lock()
	k.leaving = false
	k.mu.Unlock()
	var own nodeObject
	if err := k.fetch(ctx, drainCall, k.nodePath(), &own); err != nil {
		return fmt.Errorf("let pods onto the node again: %w", err)
	}
	return k.uncordon(ctx, own)
}

// changeNode writes a change that was made for the Node as it is. A worker's
// certificate, which is its kubelet's, may change these of its own Node.
func (k *Kubernetes) changeNode(ctx context.Context, change func(nodeObject) map[string]any) error {
	for try := 1; ; try++ {
		var node nodeObject
		if err := k.fetch(ctx, drainCall, k.nodePath(), &node); err != nil {
			return err
		}
		patch := change(node)
		if patch == nil {
			return nil
		}
		patch["metadata"].(map[string]any)["resourceVersion"] = node.Metadata.ResourceVersion
		callCtx, cancel := context.WithTimeout(ctx, drainCall)
		err := k.api.send(callCtx, http.MethodPatch, k.nodePath()+"?fieldManager="+managedBy, "application/merge-patch+json", patch)
		cancel()
		var status *statusError
		if err == nil || try == writeTries || !errors.As(err, &status) || status.code != http.StatusConflict {
			return err
		}
	}
}

// fetch is api.get with a bound of its own.
func (k *Kubernetes) fetch(ctx context.Context, within time.Duration, path string, target any) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	return k.api.get(ctx, path, target)
}

// page is how many objects one answer of a list has at the most.
const page = 200

// fetchAll reads a list of any length.
func fetchAll[T any](ctx context.Context, k *Kubernetes, path string, query url.Values) ([]T, error) {
	all, _, err := fetchList[T](ctx, k, drainCall, path, query)
	return all, err
}

// fetchList reads a list of any length, each page within a time, and returns the
// version that it is of.
func fetchList[T any](ctx context.Context, k *Kubernetes, within time.Duration, path string, query url.Values) (all []T, version string, err error) {
	query.Set("limit", fmt.Sprint(page))
	for {
		var list struct {
			Metadata struct {
				Continue        string `json:"continue"`
				ResourceVersion string `json:"resourceVersion"`
			} `json:"metadata"`
			Items []T `json:"items"`
		}
		if err := k.fetch(ctx, within, path+"?"+query.Encode(), &list); err != nil {
			return nil, "", err
		}
		all = append(all, list.Items...)
		if list.Metadata.Continue == "" {
			return all, list.Metadata.ResourceVersion, nil
		}
		query.Set("continue", list.Metadata.Continue)
	}
}

// podsHere lists the pods of this node, in the only way its kubelet's
// certificate may.
func (k *Kubernetes) podsHere(ctx context.Context) ([]podObject, error) {
	return fetchAll[podObject](ctx, k, "/api/v1/pods", url.Values{"fieldSelector": {"spec.nodeName=" + k.options.Hostname}})
}

// isAlone tells whether there is no other node that takes pods. A worker may
// not ask: it has a control plane, whose nodes take pods unless told otherwise.
func (k *Kubernetes) isAlone(ctx context.Context) (bool, error) {
	if k.isWorker() {
		return false, nil
	}
	nodes, err := fetchAll[nodeObject](ctx, k, "/api/v1/nodes", url.Values{})
	return err == nil && !othersTakePods(nodes, k.options.Hostname), err
}

// DeleteNode removes this node from the cluster. A worker's certificate may not.
func (k *Kubernetes) DeleteNode(ctx context.Context) error {
	body, err := k.api.do(ctx, http.MethodDelete, k.api.base+k.nodePath(), "", nil)
	if isNotFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("remove the node from the cluster: %w", err)
	}
	return body.Close()
}

// ReleaseLeadership gives up what the controllers of this node, which must have
// ended, held: another node's then act at once instead of in a minute.
func (k *Kubernetes) ReleaseLeadership(ctx context.Context) {
	for _, name := range []string{ControllerManager, Scheduler} {
		k.releaseLease(ctx, name)
	}
}
