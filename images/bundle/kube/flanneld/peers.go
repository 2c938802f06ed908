package flanneld

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/flannel-io/flannel/pkg/ip"
	"github.com/flannel-io/flannel/pkg/lease"
	corev1 "k8s.io/api/core/v1"
)

// Annotations in which nodes tell each other where their end of the network is;
// flannel's own names, so that its documentation holds. A node may write what it
// likes into its own.
const (
	annotationPrefix = "flannel.alpha.coreos.com/"
	managedKey       = annotationPrefix + "kube-subnet-manager"
	typeKey          = annotationPrefix + "backend-type"
	dataKey          = annotationPrefix + "backend-data"
	addressKey       = annotationPrefix + "public-ip"
)

// peers are the other nodes' ends of the network, by their pods' subnet.
type peers map[ip.IP4Net]lease.Lease

// view is what one node can tell about its peers.
type view struct {
	node    string // its own name
	address netip.Addr
	network ip.IP4Net
	backend string
	// reach tells why an address cannot be a peer's, if so.
	reach func(netip.Addr) error
}

// read finds the peers among the cluster's nodes. What keeps this node's pods
// from another node's comes back beside, one sentence each. A node that has
// announced nothing yet is neither a peer nor a problem.
func (v view) read(nodes []*corev1.Node) (peers, []string) {
	// Of nodes whose subnets overlap the older keeps its own, on every node alike:
	// a smaller subnet would take packets from a larger one.
	nodes = slices.Clone(nodes)
	slices.SortFunc(nodes, func(a, b *corev1.Node) int {
		return cmp.Or(v.rank(a)-v.rank(b), a.CreationTimestamp.Compare(b.CreationTimestamp.Time), strings.Compare(a.Name, b.Name))
	})
	found := peers{}
	var problems []string
	var owners []owner
	for _, node := range nodes {
		if node.Name == v.node {
			if own, err := nodeSubnet(node); err == nil {
				owners = append(owners, owner{own, node.Name})
			}
			continue
		}
		if node.Annotations[managedKey] != "true" {
			continue
		}
		peer, err := v.peer(node)
		if other := slices.IndexFunc(owners, func(o owner) bool { return o.subnet.Overlaps(peer.Subnet) }); err == nil && other >= 0 {
			err = fmt.Errorf("its subnet %s overlaps %s of %s; remove one of the two from the cluster", peer.Subnet, owners[other].subnet, owners[other].name)
		}
		if err != nil {
			problems = append(problems, fmt.Sprintf("pods of %s cannot be reached: %s", node.Name, err))
			continue
		}
		owners = append(owners, owner{peer.Subnet, node.Name})
		found[peer.Subnet] = peer
	}
	return found, problems
}

// owner is who has a subnet.
type owner struct {
	subnet ip.IP4Net
	name   string
}

// rank puts this node before all others.
func (v view) rank(node *corev1.Node) int {
	if node.Name == v.node {
		return 0
	}
	return 1
}

// peer reads what another node announces.
func (v view) peer(node *corev1.Node) (lease.Lease, error) {
	subnet, err := nodeSubnet(node)
	if err != nil {
		return lease.Lease{}, err
	}
	if subnet.PrefixLen < v.network.PrefixLen || !v.network.Contains(subnet.IP) {
		return lease.Lease{}, fmt.Errorf("its subnet %s is not in the pod network %s", subnet, v.network)
	}
	if backend := node.Annotations[typeKey]; backend != v.backend {
		return lease.Lease{}, fmt.Errorf("it uses the backend %.20q, this node %q; every node needs the same cluster.network.backend", backend, v.backend)
	}
	address, err := netip.ParseAddr(node.Annotations[addressKey])
	if err != nil || !address.Is4() {
		return lease.Lease{}, fmt.Errorf("it announces %.40q as its address; expected an IPv4 address", node.Annotations[addressKey])
	}
	if address == v.address {
		return lease.Lease{}, fmt.Errorf("it announces %s, which is this node's address; if it is gone, remove it from the cluster", address)
	}
	data := node.Annotations[dataKey]
	if !json.Valid([]byte(data)) {
		return lease.Lease{}, fmt.Errorf("what it announces as the annotation %s is not JSON", dataKey)
	}
	if err := v.reach(address); err != nil {
		return lease.Lease{}, err
	}
	return lease.Lease{
		EnableIPv4: true,
		Subnet:     subnet,
		Attrs: lease.LeaseAttrs{
			PublicIP:    ip.FromIP(address.AsSlice()),
			BackendType: v.backend,
			BackendData: json.RawMessage(data),
		},
	}, nil
}

// nodeSubnet is the subnet that the controller-manager gave the node for its
// pods. Its other one, if it has two, is IPv6 and not ours.
func nodeSubnet(node *corev1.Node) (ip.IP4Net, error) {
	for _, text := range append([]string{node.Spec.PodCIDR}, node.Spec.PodCIDRs...) {
		prefix, err := netip.ParsePrefix(text)
		if err == nil && prefix.Addr().Is4() {
			return ip.IP4Net{IP: ip.FromIP(prefix.Masked().Addr().AsSlice()), PrefixLen: uint(prefix.Bits())}, nil
		}
	}
	return ip.IP4Net{}, fmt.Errorf("it has no IPv4 subnet for its pods")
}

// tunnelAddress is the hardware address of a node's VXLAN link, by the data that
// the node announces; nil if there is none.
func tunnelAddress(data []byte) net.HardwareAddr {
	var announced struct{ VtepMAC string }
	if json.Unmarshal(data, &announced) != nil {
		return nil
	}
	address, err := net.ParseMAC(announced.VtepMAC)
	if err != nil {
		return nil
	}
	return address
}

// changes are the events that lead from the peers known before to those of now.
// A peer that announces something new is removed first, with all that was made
// of its old announcement: the backends only ever add.
func changes(before, now peers) []lease.Event {
	var removed, added []lease.Event
	for subnet, old := range before {
		if current, ok := now[subnet]; !ok || !sameEnd(old, current) {
			removed = append(removed, lease.Event{Type: lease.EventRemoved, Lease: old})
		}
	}
	for subnet, current := range now {
		if old, ok := before[subnet]; !ok || !sameEnd(old, current) {
			added = append(added, lease.Event{Type: lease.EventAdded, Lease: current})
		}
	}
	bySubnet := func(a, b lease.Event) int { return strings.Compare(a.Lease.Subnet.String(), b.Lease.Subnet.String()) }
	slices.SortFunc(removed, bySubnet)
	slices.SortFunc(added, bySubnet)
	return append(removed, added...)
}

// sameEnd tells whether two announcements lead packets the same way.
func sameEnd(a, b lease.Lease) bool {
	return a.Attrs.PublicIP == b.Attrs.PublicIP && a.Attrs.BackendType == b.Attrs.BackendType &&
		string(a.Attrs.BackendData) == string(b.Attrs.BackendData)
}
