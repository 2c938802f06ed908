package flanneld

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/flannel-io/flannel/pkg/backend"
	"github.com/flannel-io/flannel/pkg/ip"
	"github.com/flannel-io/flannel/pkg/subnet"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Backends, as the config calls them.
const (
	vxlan     = "vxlan"
	hostGW    = "host-gw"
	wireGuard = "wireguard"
)

// Links of a node.
const (
	vxlanLink = "flannel.1" // flannel's name for VXLAN network 1, its default
	bridge    = "cni0"
)

// nodeLink finds the link that has the node's address. The pods' MTU follows
// from its own.
func nodeLink(address netip.Addr) (*backend.ExternalInterface, error) {
	found, err := ip.GetInterfaceByIP(address.AsSlice())
	if err != nil {
		return nil, fmt.Errorf("find the link with address %s: %w", address, err)
	}
	own := net.IP(address.AsSlice())
	return &backend.ExternalInterface{Iface: found, IfaceName: found.Name, IfaceAddr: own, ExtAddr: own}, nil
}

// reachable makes what tells why a peer's address cannot be used. Tunnels go
// everywhere; host-gw makes the peer a gateway, which has to be a neighbour.
func reachable(kind string, link *backend.ExternalInterface) func(netip.Addr) error {
	if kind != hostGW {
		return func(netip.Addr) error { return nil }
	}
	return func(address netip.Addr) error {
		routes, err := netlink.RouteGet(address.AsSlice())
		if err != nil {
			return fmt.Errorf("there is no route to its address %s: %w", address, err)
		}
		for _, route := range routes {
			if route.Gw != nil || route.LinkIndex != link.Iface.Index {
				return fmt.Errorf("its address %s is not on the network of this node's link %s, as the backend host-gw needs; use vxlan or wireguard as cluster.network.backend",
					address, link.Iface.Name)
			}
		}
		return nil
	}
}

// tidy removes what an earlier run left and nobody else would: ways to nodes
// that went while none looked, and the address of a subnet that is no longer this
// node's. It also gives a link that was kept the MTU of now.
func tidy(config *subnet.Config, link *backend.ExternalInterface, network backend.Network, now peers) error {
	if err := dropAddresses(config.Network, network.Lease().Subnet); err != nil {
		return err
	}
	switch config.BackendType {
	case hostGW:
		return dropRoutes(config.Network, link.Iface.Index, now)
	case vxlan:
		tunnel, err := netlink.LinkByName(vxlanLink)
		if err != nil {
			return fmt.Errorf("find link %s: %w", vxlanLink, err)
		}
		if tunnel.Attrs().MTU != network.MTU() {
			if err := netlink.LinkSetMTU(tunnel, network.MTU()); err != nil {
				return fmt.Errorf("set the MTU of %s to %d: %w", vxlanLink, network.MTU(), err)
			}
		}
		return errors.Join(
			dropRoutes(config.Network, tunnel.Attrs().Index, now),
			dropNeighbours(tunnel.Attrs().Index, now),
		)
	}
	return nil // WireGuard's link is made anew
}

// dropRoutes removes the link's routes to subnets that are no peer's.
func dropRoutes(network ip.IP4Net, link int, now peers) error {
	routes, err := netlink.RouteListFiltered(netlink.FAMILY_V4, &netlink.Route{LinkIndex: link}, netlink.RT_FILTER_OIF)
	if err != nil {
		return fmt.Errorf("list the routes: %w", err)
	}
	var failed []error
	for _, route := range routes {
		if route.Dst == nil || route.Gw == nil || !network.Contains(ip.FromIP(route.Dst.IP)) {
			continue
		}
		peer, ok := now[ip.FromIPNet(route.Dst)]
		// VXLAN's gateway is the peer's first address, host-gw's the peer itself.
		if ok && (route.Gw.Equal(peer.Subnet.IP.ToIP()) || route.Gw.Equal(peer.Attrs.PublicIP.ToIP())) {
			continue
		}
		if err := netlink.RouteDel(&route); err != nil && !errors.Is(err, unix.ESRCH) {
			failed = append(failed, fmt.Errorf("remove the route to %s, which no node has: %w", route.Dst, err))
		}
	}
	return errors.Join(failed...)
}

// dropNeighbours removes the addresses and forwarding entries of the VXLAN link
// that are no peer's.
func dropNeighbours(link int, now peers) error {
	var failed []error
	for _, family := range []int{unix.AF_INET, unix.AF_BRIDGE} {
		entries, err := netlink.NeighList(link, family)
		if err != nil {
			return fmt.Errorf("list the neighbours: %w", err)
		}
		for _, entry := range entries {
			// The kernel's own entries have no address, or are for everyone.
			if entry.State&netlink.NUD_PERMANENT == 0 || entry.IP.To4() == nil || now.has(entry) {
				continue
			}
			if err := netlink.NeighDel(&entry); err != nil && !errors.Is(err, unix.ENOENT) {
				failed = append(failed, fmt.Errorf("remove the neighbour %s, which no node has: %w", entry.IP, err))
			}
		}
	}
	return errors.Join(failed...)
}

// has tells whether an entry of the VXLAN link leads to a peer: from the peer's
// first pod address to its hardware address, or from that to its own.
func (p peers) has(entry netlink.Neigh) bool {
	for _, peer := range p {
		to := peer.Subnet.IP
		if entry.Family == unix.AF_BRIDGE {
			to = peer.Attrs.PublicIP
		}
		if entry.IP.Equal(to.ToIP()) && bytes.Equal(entry.HardwareAddr, tunnelAddress(peer.Attrs.BackendData)) {
			return true
		}
	}
	return false
}

// dropAddresses takes the addresses of other subnets from the pods' bridge: the
// CNI plugin refuses a bridge that has one. Pods that have such addresses
// were removed with the Node object that had them.
func dropAddresses(network, own ip.IP4Net) error {
	link, err := netlink.LinkByName(bridge)
	var absent netlink.LinkNotFoundError
	if errors.As(err, &absent) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("find link %s: %w", bridge, err)
	}
	addresses, err := netlink.AddrList(link, netlink.FAMILY_V4)
	if err != nil {
		return fmt.Errorf("list the addresses of %s: %w", bridge, err)
	}
	var failed []error
	for _, address := range addresses {
		if at := ip.FromIP(address.IP); !network.Contains(at) || own.Contains(at) {
			continue
		}
		if err := netlink.AddrDel(link, &address); err != nil {
			failed = append(failed, fmt.Errorf("remove the address %s from %s: %w", address.IPNet, bridge, err))
		}
	}
	return errors.Join(failed...)
}
