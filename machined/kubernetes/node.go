package kubernetes

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"time"
)

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
		Name            string            `json:"name"`
		ResourceVersion string            `json:"resourceVersion"`
		Labels          map[string]string `json:"labels"`
		Annotations     map[string]string `json:"annotations"`
	} `json:"metadata"`
	Spec struct {
		Unschedulable bool `json:"unschedulable"`
	} `json:"spec"`
	Status struct {
		Addresses []struct {
			Type    string `json:"type"`
			Address string `json:"address"`
		} `json:"addresses"`
		NodeInfo struct {
			MachineID      string `json:"machineID"`
			KubeletVersion string `json:"kubeletVersion"`
		} `json:"nodeInfo"`
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
// changed, from one goroutine, when it has become another. A control-plane node
// follows all the others with it: see Nodes.
func (k *Kubernetes) WatchNode(ctx context.Context, changed func(Node)) {
	k.readNodes()
	k.follow(ctx, k.nodeCollection(ctx, changed))
}

func (k *Kubernetes) nodeCollection(ctx context.Context, changed func(Node)) collection {
	query := url.Values{}
	if k.isWorker() { // may see none but itself
		query.Set("fieldSelector", "metadata.name="+k.options.Hostname)
	}
	take := func(own *nodeObject) error {
		if own == nil {
			k.setNode(Node{}, changed)
			return nil
		}
		k.label(ctx, *own)
		k.setNode(own.node(k.started), changed)
		return k.uncordon(ctx, *own)
	}
	return collection{
		what: "nodes", path: "/api/v1/nodes", query: query,
		list: func(items []json.RawMessage) error {
			all := map[string]ClusterNode{}
			var own *nodeObject
			for _, item := range items {
				object, err := parseNode(item)
				if err != nil {
					return err
				}
				all[object.Metadata.Name] = object.clusterNode()
				if object.Metadata.Name == k.options.Hostname {
					own = &object
				}
			}
			// First: the other nodes are known whatever comes of this one's changes.
			k.setNodes(all)
			return take(own)
		},
		changed: func(kind string, text json.RawMessage) error {
			object, err := parseNode(text)
			if err != nil {
				return err
			}
			own := &object
			if kind == "DELETED" {
				k.removeNode(object.Metadata.Name)
				own = nil
			} else {
				k.putNode(object.clusterNode())
			}
			if object.Metadata.Name != k.options.Hostname {
				return nil
			}
			return take(own)
		},
	}
}

func parseNode(text json.RawMessage) (object nodeObject, err error) {
	if err := json.Unmarshal(text, &object); err != nil {
		return object, fmt.Errorf("read a node: %w", err)
	}
	return object, nil
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
	if k.isWorker() {
		return
	}
	if _, ok := object.Metadata.Labels[controlPlaneLabel]; ok {
		return
	}
	patch := map[string]any{"metadata": map[string]any{"labels": map[string]string{controlPlaneLabel: ""}}}
	path := "/api/v1/nodes/" + url.PathEscape(k.options.Hostname) + "?fieldManager=" + managedBy
	if err := k.api.send(ctx, http.MethodPatch, path, "application/merge-patch+json", patch); err != nil {
		k.options.Log.Warn("node not labelled as one of the control plane", slog.Any("error", err))
	}
}
