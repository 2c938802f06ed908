package kubernetes

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"time"
)

// watchFor is how long the API server keeps one watch open, in seconds. The
// next one begins at once.
const watchFor = 600

// controlPlaneLabel shows in `get nodes` what the node is. kubelet may not set
// it on itself, so machined does.
const controlPlaneLabel = "node-role.kubernetes.io/control-plane"

// Node is this node as the cluster sees it. The zero value: not registered.
type Node struct {
	Registered bool
	Ready      bool
	// Message says why it is not ready.
	Message string
}

// nodeObject is the part of a Node that is used here.
type nodeObject struct {
	Metadata struct {
		Labels map[string]string `json:"labels"`
	} `json:"metadata"`
	Status struct {
		Conditions []struct {
			Type    string `json:"type"`
			Status  string `json:"status"`
			Message string `json:"message"`
			// Heartbeat is when kubelet last reported, to the second.
			Heartbeat time.Time `json:"lastHeartbeatTime"`
		} `json:"conditions"`
	} `json:"status"`
}

// node is the state since a time: what kubelet said before a reboot says
// nothing about the node after it.
func (o nodeObject) node(since time.Time) Node {
	for _, condition := range o.Status.Conditions {
		if condition.Type == "Ready" && !condition.Heartbeat.Before(since.Truncate(time.Second)) {
			return Node{Registered: true, Ready: condition.Status == "True", Message: condition.Message}
		}
	}
	return Node{Registered: true, Message: "kubelet has not reported yet"}
}

// WatchNode follows this node's state in the cluster until ctx ends and calls
// changed, from one goroutine, when it has become another.
func (k *Kubernetes) WatchNode(ctx context.Context, changed func(Node)) {
	delay := retryFirst
	for {
		if k.serving.wait(ctx) != nil {
			return
		}
		began := time.Now()
		err := k.watchNode(ctx, changed)
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			k.options.Log.Warn("watch of the node's state ended", slog.Any("error", err))
		}
		if time.Since(began) > retryMax {
			delay = retryFirst
		}
		if !pause(ctx, delay) {
			return
		}
		delay = min(2*delay, retryMax)
	}
}

// watchNode follows one watch until the server ends it.
func (k *Kubernetes) watchNode(ctx context.Context, changed func(Node)) error {
	query := url.Values{
		"watch":          {"true"},
		"fieldSelector":  {"metadata.name=" + k.options.Hostname},
		"timeoutSeconds": {fmt.Sprint(watchFor)},
	}
	// The server ends it in time; this is for a server that does not.
	ctx, cancel := context.WithTimeout(ctx, (watchFor+60)*time.Second)
	defer cancel()
	// Without a resourceVersion the watch begins with what there is now.
	body, err := k.api.do(ctx, http.MethodGet, k.api.base+"/api/v1/nodes?"+query.Encode(), "", nil)
	if err != nil {
		return err
	}
	defer body.Close()
	events := json.NewDecoder(body)
	for {
		var event struct {
			Type   string          `json:"type"`
			Object json.RawMessage `json:"object"`
		}
		if err := events.Decode(&event); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		switch event.Type {
		case "ADDED", "MODIFIED":
			var object nodeObject
			if err := json.Unmarshal(event.Object, &object); err != nil {
				return fmt.Errorf("read the node: %w", err)
			}
			k.label(ctx, object)
			k.setNode(object.node(k.started), changed)
		case "DELETED":
			k.setNode(Node{}, changed)
		case "ERROR":
			return errors.New(statusMessage(event.Object))
		}
	}
}

// setNode keeps the node's state and tells of a change.
func (k *Kubernetes) setNode(now Node, changed func(Node)) {
	k.mu.Lock()
	before := k.node
	k.node = now
	k.mu.Unlock()
	if before != now {
		changed(now)
	}
}

// label marks the node as one of the control plane. The next event brings a
// failed attempt back here.
func (k *Kubernetes) label(ctx context.Context, object nodeObject) {
	if _, ok := object.Metadata.Labels[controlPlaneLabel]; ok {
		return
	}
	patch := map[string]any{"metadata": map[string]any{"labels": map[string]string{controlPlaneLabel: ""}}}
	path := "/api/v1/nodes/" + url.PathEscape(k.options.Hostname) + "?fieldManager=" + managedBy
	if err := k.api.send(ctx, http.MethodPatch, path, "application/merge-patch+json", patch); err != nil {
		k.options.Log.Warn("node not labelled as one of the control plane", slog.Any("error", err))
	}
}
