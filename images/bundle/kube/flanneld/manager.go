package flanneld

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/flannel-io/flannel/pkg/ip"
	"github.com/flannel-io/flannel/pkg/lease"
	"github.com/flannel-io/flannel/pkg/subnet"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"
	"k8s.io/klog/v2"
)

// How patiently this node's announcement is written, and how often at most over
// another machine's: two of one name would do so for ever.
const (
	announceEvery   = time.Second
	announceTimeout = 30 * time.Second
	attemptTimeout  = 10 * time.Second
	insistEvery     = 30 * time.Second
)

var errNotUsed = errors.New("not used by the backends")

// manager gives flannel's backends this node's subnet and tells them of the
// other nodes, all from the cluster's Node objects.
//
// flannel's own manager passes the API's events on as they come: after a watch
// that had to start again, a node that took over the subnet of one that is
// gone is removed with it; what was made of an announcement that changed stays; and
// one node's malformed address ends the process on all others. Here every
// change is a comparison of what was told with what is.
type manager struct {
	config   *subnet.Config
	client   kubernetes.Interface
	nodes    *nodes
	view     view
	problems *problems
	// lost gets the error that this process cannot go on after.
	lost chan error

	// Of AcquireLease, which is over before WatchLeases begins.
	own       ip.IP4Net
	announced map[string]string
	written   time.Time
}

// AcquireLease implements subnet.Manager: the subnet is there, and what the
// other nodes need to know is written to this node's annotations.
func (m *manager) AcquireLease(ctx context.Context, attrs *lease.LeaseAttrs) (*lease.Lease, error) {
	own, err := nodeSubnet(m.nodes.get(m.view.node))
	if err != nil {
		return nil, err
	}
	if own.PrefixLen < m.config.Network.PrefixLen || !m.config.Network.Contains(own.IP) {
		return nil, fmt.Errorf("subnet %s of this node is not in the pod network %s", own, m.config.Network)
	}
	data, err := attrs.BackendData.MarshalJSON()
	if err != nil {
		return nil, err
	}
	m.own, m.announced = own, map[string]string{
		managedKey: "true",
		typeKey:    attrs.BackendType,
		dataKey:    string(data),
		addressKey: attrs.PublicIP.String(),
	}
	var refused error
	err = wait.PollUntilContextTimeout(ctx, announceEvery, announceTimeout, true, func(ctx context.Context) (bool, error) {
		refused = m.announce(ctx)
		return refused == nil, nil
	})
	if err != nil {
		return nil, errors.Join(refused, err)
	}
	return &lease.Lease{EnableIPv4: true, Subnet: own, Attrs: *attrs}, nil
}

// announce writes this node's annotations and returns when they have come back,
// so that no old state is taken for another machine's doing.
func (m *manager) announce(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, attemptTimeout)
	defer cancel()
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"annotations": m.announced}})
	if err != nil {
		return fmt.Errorf("render this node's announcement: %w", err)
	}
	m.written = time.Now()
	if _, err := m.client.CoreV1().Nodes().Patch(ctx, m.view.node, types.MergePatchType, patch, metav1.PatchOptions{}, "status"); err != nil {
		return fmt.Errorf("announce this node's end of the network: %w", err)
	}
	for !m.isAnnounced(m.nodes.get(m.view.node)) {
		if err := m.nodes.wait(ctx); err != nil {
			return fmt.Errorf("see this node's announcement: %w", err)
		}
	}
	return nil
}

// isAnnounced tells whether the Node object holds what was announced.
func (m *manager) isAnnounced(node *corev1.Node) bool {
	for key, value := range m.announced {
		if node.Annotations[key] != value {
			return false
		}
	}
	return true
}

// WatchLeases implements subnet.Manager: it tells the backend of the peers, and
// of what changes about them, until ctx ends.
func (m *manager) WatchLeases(ctx context.Context, receiver chan []lease.LeaseWatchResult) error {
	defer close(receiver)
	told := peers{}
	for {
		own, err := m.keepAnnounced(ctx)
		if err != nil {
			m.lose(err)
			return err
		}
		now, wrong := m.view.read(m.nodes.list())
		m.problems.set(append(own, wrong...))
		if events := changes(told, now); len(events) > 0 {
			select {
			case receiver <- []lease.LeaseWatchResult{{Events: events}}:
			case <-ctx.Done():
				return ctx.Err()
			}
			told = now
		}
		if err := m.nodes.wait(ctx); err != nil {
			return err
		}
	}
}

// keepAnnounced writes this node's announcement again when it is gone from
// the Node object, as after that was deleted and made anew. It returns what is
// wrong with it; an error when the network was made for another subnet.
func (m *manager) keepAnnounced(ctx context.Context) ([]string, error) {
	node := m.nodes.get(m.view.node)
	own, err := nodeSubnet(node)
	if err != nil || own == m.own && m.isAnnounced(node) {
		return nil, nil // without a subnet it was deleted, or made a moment ago
	}
	if own != m.own {
		return nil, fmt.Errorf("this node's subnet changed from %s to %s", m.own, own)
	}
	var wrong []string
	if other := node.Annotations[addressKey]; other != "" && other != m.announced[addressKey] {
		wrong = append(wrong, fmt.Sprintf("a machine at %.40q announces itself as this node, %s; give every machine a hostname of its own", other, m.view.node))
		if time.Since(m.written) < insistEvery {
			return wrong, nil
		}
	}
	klog.InfoS("This node's announcement is gone; writing it again", "node", m.view.node)
	if err := m.announce(ctx); err != nil {
		klog.ErrorS(err, "Other nodes may not find this node's pods")
	}
	return wrong, nil
}

// lose ends run with err, unless it ends already.
func (m *manager) lose(err error) {
	select {
	case m.lost <- err:
	default:
	}
}

// GetNetworkConfig implements subnet.Manager.
func (m *manager) GetNetworkConfig(context.Context) (*subnet.Config, error) { return m.config, nil }

// GetStoredMacAddresses implements subnet.Manager: the address that this node's
// VXLAN link had before, so that the other nodes need not learn a new one.
func (m *manager) GetStoredMacAddresses(context.Context) (ipv4, ipv6 string) {
	return tunnelAddress([]byte(m.nodes.get(m.view.node).Annotations[dataKey])).String(), ""
}

// Name implements subnet.Manager.
func (m *manager) Name() string { return "nodes of the cluster" }

// The rest of subnet.Manager is for flannel's own main program.

// HandleSubnetFile implements subnet.Manager.
func (m *manager) HandleSubnetFile(string, *subnet.Config, bool, ip.IP4Net, ip.IP6Net, int) error {
	return errNotUsed
}

// RenewLease implements subnet.Manager.
func (m *manager) RenewLease(context.Context, *lease.Lease) error { return errNotUsed }

// WatchLease implements subnet.Manager.
func (m *manager) WatchLease(context.Context, ip.IP4Net, ip.IP6Net, chan []lease.LeaseWatchResult) error {
	return errNotUsed
}

// CompleteLease implements subnet.Manager.
func (m *manager) CompleteLease(context.Context, *lease.Lease, *sync.WaitGroup) error {
	return errNotUsed
}

// GetStoredPublicIP implements subnet.Manager.
func (m *manager) GetStoredPublicIP(context.Context) (ipv4, ipv6 string) { return "", "" }
