package network

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// DNSLink carries DNSAddress, where the node's CoreDNS listens for pods. It is
// the address NodeLocal DNSCache uses: outside the service subnet, where
// kube-proxy would drop what the node itself sends to it.
const DNSLink = "kube-dns0"

// DNSAddress is the cluster's name server, on every node.
var DNSAddress = netip.MustParseAddr("169.254.20.10")

// Metrics of default routes: a fixed gateway is preferred to DHCP's, and an
// earlier link to a later one.
const (
	staticMetric = 100
	dhcpMetric   = 1024
)

// Origins of routes in the kernel's table, see /etc/iproute2/rt_protos.
const (
	protocolStatic = unix.RTPROT_STATIC
	protocolDHCP   = unix.RTPROT_DHCP
)

// listLinks lists the node's links in the kernel's order.
func listLinks() ([]linkInfo, error) {
	links, err := netlink.LinkList()
	if err != nil {
		return nil, fmt.Errorf("list the network links: %w", err)
	}
	var all []linkInfo
	for _, link := range links {
		attributes := link.Attrs()
		all = append(all, linkInfo{
			name: attributes.Name,
			mac:  attributes.HardwareAddr.String(),
			// A veth is what a network card is inside a container.
			physical: (link.Type() == "device" || link.Type() == "veth") && attributes.EncapType == "ether",
		})
	}
	return all, nil
}

// raiseLink sets the MTU, if any, and switches the link on.
func raiseLink(name string, mtu int) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return fmt.Errorf("link %s: %w", name, err)
	}
	if mtu > 0 && link.Attrs().MTU != mtu {
		if err := netlink.LinkSetMTU(link, mtu); err != nil {
			return fmt.Errorf("set the MTU of %s to %d: %w", name, mtu, err)
		}
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return fmt.Errorf("switch %s on: %w", name, err)
	}
	return nil
}

// addDNSLink makes DNSLink with its address, if it is not there yet.
func addDNSLink() error {
	if _, err := netlink.LinkByName(DNSLink); err != nil {
		attributes := netlink.NewLinkAttrs()
		attributes.Name = DNSLink
		if err := netlink.LinkAdd(&netlink.Dummy{LinkAttrs: attributes}); err != nil {
			return fmt.Errorf("make the link %s: %w (is the module dummy loaded?)", DNSLink, err)
		}
	}
	if err := addAddresses(DNSLink, []netip.Prefix{netip.PrefixFrom(DNSAddress, DNSAddress.BitLen())}); err != nil {
		return err
	}
	return raiseLink(DNSLink, 0)
}

// setAddresses makes want the link's global IPv4 addresses, no more and no less,
// and adds its IPv6 ones. (The kernel makes IPv6 addresses by itself; those stay,
// as do virtual IPs, which are not global: see virtual.)
func setAddresses(name string, want []netip.Prefix) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return fmt.Errorf("link %s: %w", name, err)
	}
	have, err := netlink.AddrList(link, netlink.FAMILY_V4)
	if err != nil {
		return fmt.Errorf("list the addresses of %s: %w", name, err)
	}
	for _, old := range have {
		prefix, ok := toPrefix(old.IPNet)
		if !ok || slices.Contains(want, prefix) || old.Scope != unix.RT_SCOPE_UNIVERSE {
			continue
		}
		if err := netlink.AddrDel(link, &old); err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) {
			return fmt.Errorf("remove %s from %s: %w", prefix, name, err)
		}
	}
	// Afterwards: with an address, the kernel may remove others of its subnet.
	return addAddresses(name, want)
}

// addAddresses adds those of the addresses that the link does not have.
func addAddresses(name string, want []netip.Prefix) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return fmt.Errorf("link %s: %w", name, err)
	}
	for _, address := range want {
		if err := netlink.AddrReplace(link, &netlink.Addr{IPNet: toIPNet(address)}); err != nil {
			return fmt.Errorf("add %s to %s: %w", address, name, err)
		}
	}
	return nil
}

// setRoute adds a route by way of the link, or replaces the one of the same
// metric. From is the address that packets leave with; the kernel drops the
// route together with it.
func setRoute(name string, r route, from netip.Addr, metric, protocol int) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return fmt.Errorf("link %s: %w", name, err)
	}
	kernelRoute := &netlink.Route{
		LinkIndex: link.Attrs().Index,
		Dst:       toIPNet(r.to),
		Priority:  metric + link.Attrs().Index,
		Protocol:  netlink.RouteProtocol(protocol),
		Scope:     netlink.SCOPE_LINK,
	}
	if from.IsValid() {
		kernelRoute.Src = from.AsSlice()
	}
	if r.gateway.IsValid() {
		kernelRoute.Gw = r.gateway.AsSlice()
		kernelRoute.Scope = netlink.SCOPE_UNIVERSE
		// Clouds hand out /32 addresses with a gateway outside.
		kernelRoute.Flags = int(netlink.FLAG_ONLINK)
	}
	if err := netlink.RouteReplace(kernelRoute); err != nil {
		return fmt.Errorf("route %s through %s on %s: %w", r.to, r.gateway, name, err)
	}
	return nil
}

// hasCarrier tells whether a link is up and its cable is in.
func hasCarrier(link netlink.Link) bool {
	const running = unix.IFF_UP | unix.IFF_LOWER_UP
	return link.Attrs().RawFlags&running == running
}

func toIPNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

func toPrefix(n *net.IPNet) (netip.Prefix, bool) {
	if n == nil {
		return netip.Prefix{}, false
	}
	address, ok := netip.AddrFromSlice(n.IP)
	bits, _ := n.Mask.Size()
	return netip.PrefixFrom(address.Unmap(), bits), ok
}
