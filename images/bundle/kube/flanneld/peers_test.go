package flanneld

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/flannel-io/flannel/pkg/ip"
	"github.com/flannel-io/flannel/pkg/lease"
	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const mac = `{"VNI":1,"VtepMAC":"02:00:00:00:00:01"}`

// announcing is a node that announces itself.
func announcing(name, subnet, address, backend, data string) *corev1.Node {
	return &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: name, Annotations: map[string]string{
			managedKey: "true", typeKey: backend, dataKey: data, addressKey: address,
		}},
		Spec: corev1.NodeSpec{PodCIDR: subnet},
	}
}

func network(t *testing.T, text string) ip.IP4Net {
	t.Helper()
	prefix, err := netip.ParsePrefix(text)
	if err != nil {
		t.Fatal(err)
	}
	return ip.IP4Net{IP: ip.FromIP(prefix.Addr().AsSlice()), PrefixLen: uint(prefix.Bits())}
}

func TestReadPeers(t *testing.T) {
	view := view{
		node: "self", address: netip.MustParseAddr("10.0.0.1"), network: network(t, "10.244.0.0/16"), backend: "vxlan",
		reach: func(address netip.Addr) error {
			if address.String() == "10.9.9.9" {
				return errors.New("far away")
			}
			return nil
		},
	}
	self := announcing("self", "10.244.0.0/24", "10.0.0.1", "vxlan", mac)
	twoStacks := announcing("b", "", "10.0.0.3", "vxlan", mac)
	twoStacks.Spec.PodCIDRs = []string{"fd00::/64", "10.244.2.0/24"}
	for _, c := range []struct {
		name    string
		node    *corev1.Node
		subnet  string // of the peer; "" when it is none
		problem string
	}{
		{"a peer", announcing("a", "10.244.1.0/24", "10.0.0.2", "vxlan", mac), "10.244.1.0/24", ""},
		{"two stacks", twoStacks, "10.244.2.0/24", ""},
		{"nothing announced yet", &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "c"}, Spec: corev1.NodeSpec{PodCIDR: "10.244.1.0/24"}}, "", ""},
		{"no subnet", announcing("a", "", "10.0.0.2", "vxlan", mac), "", "it has no IPv4 subnet"},
		{"another cluster's subnet", announcing("a", "10.200.1.0/24", "10.0.0.2", "vxlan", mac), "", "10.200.1.0/24 is not in the pod network 10.244.0.0/16"},
		{"the whole network", announcing("a", "10.0.0.0/8", "10.0.0.2", "vxlan", mac), "", "10.0.0.0/8 is not in the pod network"},
		{"another backend", announcing("a", "10.244.1.0/24", "10.0.0.2", "host-gw", "null"), "", `it uses the backend "host-gw", this node "vxlan"`},
		{"an IPv6 address", announcing("a", "10.244.1.0/24", "fd00::2", "vxlan", mac), "", `"fd00::2" as its address`},
		{"no address", announcing("a", "10.244.1.0/24", strings.Repeat("x", 1000), "vxlan", mac), "", "expected an IPv4 address"},
		{"no JSON", announcing("a", "10.244.1.0/24", "10.0.0.2", "vxlan", "{"), "", "is not JSON"},
		{"this node's address", announcing("a", "10.244.1.0/24", "10.0.0.1", "vxlan", mac), "", "which is this node's address"},
		{"this node's subnet", announcing("a", "10.244.0.0/24", "10.0.0.2", "vxlan", mac), "", "its subnet 10.244.0.0/24 overlaps 10.244.0.0/24 of self"},
		{"a part of this node's subnet", announcing("a", "10.244.0.128/25", "10.0.0.2", "vxlan", mac), "", "its subnet 10.244.0.128/25 overlaps 10.244.0.0/24 of self"},
		{"out of reach", announcing("a", "10.244.1.0/24", "10.9.9.9", "vxlan", mac), "", "far away"},
	} {
		t.Run(c.name, func(t *testing.T) {
			found, problems := view.read([]*corev1.Node{c.node, self})
			if c.subnet == "" && len(found) > 0 || c.subnet != "" && len(found) != 1 {
				t.Errorf("found %v", found)
			}
			if c.subnet != "" {
				peer, ok := found[network(t, c.subnet)]
				if !ok || !peer.EnableIPv4 || peer.Attrs.PublicIP.String() != c.node.Annotations[addressKey] || string(peer.Attrs.BackendData) != mac {
					t.Errorf("found %+v", found)
				}
			}
			if c.problem == "" && problems != nil || c.problem != "" && len(problems) != 1 {
				t.Fatalf("problems %q", problems)
			}
			if c.problem != "" && (!strings.Contains(problems[0], c.problem) || !strings.HasPrefix(problems[0], "pods of a cannot be reached: ") || len(problems[0]) > 300) {
				t.Errorf("problem %q, want %q in it", problems[0], c.problem)
			}
		})
	}
}

// Of nodes with overlapping subnets the same one is used on every node, in
// whatever order they are listed: the older.
func TestReadPeersWithOverlappingSubnets(t *testing.T) {
	view := view{node: "self", network: network(t, "10.244.0.0/16"), backend: "vxlan", reach: func(netip.Addr) error { return nil }}
	old, young := announcing("old", "10.244.1.0/24", "10.0.0.2", "vxlan", mac), announcing("a-thief", "10.244.1.128/25", "10.0.0.3", "vxlan", mac)
	young.CreationTimestamp = metav1.Now()
	for _, nodes := range [][]*corev1.Node{{old, young}, {young, old}} {
		found, problems := view.read(nodes)
		if got := found[network(t, "10.244.1.0/24")].Attrs.PublicIP.String(); got != "10.0.0.2" || len(found) != 1 {
			t.Errorf("the subnet is reached through %s, want the older node's address; peers %v", got, found)
		}
		if len(problems) != 1 || !strings.HasPrefix(problems[0], "pods of a-thief cannot be reached: its subnet 10.244.1.128/25 overlaps 10.244.1.0/24 of old") {
			t.Errorf("problems %q", problems)
		}
	}
}

func TestChanges(t *testing.T) {
	at := func(subnet, address, data string) lease.Lease {
		return lease.Lease{EnableIPv4: true, Subnet: network(t, subnet), Attrs: lease.LeaseAttrs{
			PublicIP: ip.MustParseIP4(address), BackendType: "wireguard", BackendData: []byte(data),
		}}
	}
	all := func(leases ...lease.Lease) peers {
		made := peers{}
		for _, one := range leases {
			made[one.Subnet] = one
		}
		return made
	}
	one, two := at("10.244.1.0/24", "10.0.0.1", `"key"`), at("10.244.2.0/24", "10.0.0.2", `"key2"`)
	for _, c := range []struct {
		name        string
		before, now peers
		want        []string
	}{
		{"nothing", nil, nil, nil},
		{"first look", nil, all(two, one), []string{"+10.244.1.0/24 10.0.0.1", "+10.244.2.0/24 10.0.0.2"}},
		{"no change", all(one, two), all(two, one), nil},
		{"gone", all(one, two), all(one), []string{"-10.244.2.0/24 10.0.0.2"}},
		{"new address", all(one), all(at("10.244.1.0/24", "10.0.0.9", `"key"`)), []string{"-10.244.1.0/24 10.0.0.1", "+10.244.1.0/24 10.0.0.9"}},
		{"new key", all(one), all(at("10.244.1.0/24", "10.0.0.1", `"other"`)), []string{"-10.244.1.0/24 10.0.0.1", "+10.244.1.0/24 10.0.0.1"}},
		// The node of an address goes and one with its subnet comes: what is new stays.
		{"subnet taken over", all(one, two), all(at("10.244.2.0/24", "10.0.0.1", `"key"`)),
			[]string{"-10.244.1.0/24 10.0.0.1", "-10.244.2.0/24 10.0.0.2", "+10.244.2.0/24 10.0.0.1"}},
	} {
		var got []string
		for _, event := range changes(c.before, c.now) {
			sign := map[lease.EventType]string{lease.EventAdded: "+", lease.EventRemoved: "-"}[event.Type]
			got = append(got, fmt.Sprintf("%s%s %s", sign, event.Lease.Subnet, event.Lease.Attrs.PublicIP))
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, diff)
		}
	}
}

// Any node may announce anything.
func FuzzPeer(f *testing.F) {
	f.Add("10.244.1.0/24", "10.0.0.2", "vxlan", mac)
	f.Add("10.244.0.0/16", "::1", "", "null")
	f.Fuzz(func(t *testing.T, subnet, address, backend, data string) {
		view := view{node: "self", network: network(t, "10.244.0.0/16"), backend: "vxlan", reach: func(netip.Addr) error { return nil }}
		found, problems := view.read([]*corev1.Node{announcing("a", subnet, address, backend, data)})
		if len(found)+len(problems) != 1 {
			t.Errorf("%d peers, problems %q", len(found), problems)
		}
		for subnet, peer := range found {
			_ = tunnelAddress(peer.Attrs.BackendData)
			if !view.network.Contains(subnet.IP) || peer.Attrs.PublicIP.String() != address {
				t.Errorf("found %+v", peer)
			}
		}
		for _, problem := range problems {
			if len(problem) > 500 {
				t.Errorf("a problem of %d bytes", len(problem))
			}
		}
	})
}
