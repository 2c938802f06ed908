package kubernetes

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/google/renameio/v2"
)

// maxNodes bounds what is kept of a cluster; Kubernetes itself is tested with
// 5,000 nodes.
const maxNodes = 5000

// ClusterNode is one of the cluster's nodes, as Kubernetes knows it.
type ClusterNode struct {
	Name         string       `json:"name"`
	Addresses    []netip.Addr `json:"addresses"`
	ControlPlane bool         `json:"controlPlane"`
	// Ready is Kubernetes' condition, Message why it is not.
	Ready   bool   `json:"-"`
	Message string `json:"-"`
	// Version is its kubelet's.
	Version       string `json:"version"`
	Unschedulable bool   `json:"-"`
}

func (o nodeObject) clusterNode() ClusterNode {
	state := o.node(time.Time{})
	node := ClusterNode{
		Name: o.Metadata.Name, Ready: state.Ready, Message: state.Message,
		Version: o.Status.NodeInfo.KubeletVersion, Unschedulable: o.Spec.Unschedulable,
	}
	_, node.ControlPlane = o.Metadata.Labels[controlPlaneLabel]
	for _, each := range o.Status.Addresses {
		if address, err := netip.ParseAddr(each.Address); err == nil && each.Type == "InternalIP" {
			node.Addresses = append(node.Addresses, address)
		}
	}
	return node
}

// Nodes returns the cluster's nodes by name, as this node last heard of them;
// a worker knows itself only.
func (k *Kubernetes) Nodes() []ClusterNode {
	k.mu.Lock()
	defer k.mu.Unlock()
	var list []ClusterNode
	for _, name := range slices.Sorted(maps.Keys(k.nodes)) {
		list = append(list, k.nodes[name])
	}
	return list
}

func (k *Kubernetes) setNodes(all map[string]ClusterNode) {
	k.mu.Lock()
	k.nodes = all
	k.mu.Unlock()
	k.keepNodes()
}

func (k *Kubernetes) putNode(node ClusterNode) {
	k.mu.Lock()
	_, known := k.nodes[node.Name]
	if known || len(k.nodes) < maxNodes {
		k.nodes[node.Name] = node
	}
	k.mu.Unlock()
	k.keepNodes()
}

func (k *Kubernetes) removeNode(name string) {
	k.mu.Lock()
	delete(k.nodes, name)
	k.mu.Unlock()
	k.keepNodes()
}

// keepNodes writes down which nodes there are, if that is news: after a reboot
// without a working cluster it is how the others are found.
func (k *Kubernetes) keepNodes() {
	if k.options.NodesFile == "" || k.isWorker() {
		return
	}
	text, err := json.Marshal(k.Nodes())
	if err != nil || bytes.Equal(text, k.keptNodes) {
		return
	}
	if err := errors.Join(os.MkdirAll(filepath.Dir(k.options.NodesFile), 0o700), renameio.WriteFile(k.options.NodesFile, text, 0o600)); err != nil {
		k.options.Log.Warn("the cluster's nodes are not written down", slog.Any("error", err))
		return
	}
	k.keptNodes = text
}

// readNodes reads what an earlier boot wrote down.
func (k *Kubernetes) readNodes() {
	if k.options.NodesFile == "" {
		return
	}
	text, err := os.ReadFile(k.options.NodesFile)
	var list []ClusterNode
	if err == nil {
		err = json.Unmarshal(text, &list)
	}
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			k.options.Log.Warn("what was known of the cluster's nodes is lost", slog.Any("error", err))
		}
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, node := range list[:min(len(list), maxNodes)] {
		node.Message = "not heard of since this node's boot"
		k.nodes[node.Name] = node
	}
	k.keptNodes = text
}

// Machine tells which machine bears a node's name in the cluster, and whether
// it is there now. registered is false when none does.
func (k *Kubernetes) Machine(ctx context.Context, name string) (machineID string, ready, registered bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	var object nodeObject
	err = k.api.get(ctx, "/api/v1/nodes/"+url.PathEscape(name), &object)
	switch {
	case isNotFound(err):
		return "", false, false, nil
	case err != nil:
		k.unreachable(err)
		return "", false, false, fmt.Errorf("ask Kubernetes for node %s: %w", name, err)
	}
	return object.Status.NodeInfo.MachineID, object.node(time.Time{}).Ready, true, nil
}
