package network

import (
	"errors"
	"fmt"
	"math"
	"net"
	"net/netip"

	"github.com/mdlayher/packet"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// kernelLinks are the node's real links.
type kernelLinks struct{}

// linkAddress is an address that a link has.
type linkAddress struct {
	link   string
	prefix netip.Prefix
	// own says that it is the machine's, not a virtual one.
	own bool
}

// place implements links.
func (kernelLinks) place(address netip.Addr) (placement, error) {
	have, err := listAddresses(address)
	if err != nil {
		return placement{}, err
	}
	return chooseLink(have, address)
}

// listAddresses lists the addresses of like's family on all links.
func listAddresses(like netip.Addr) ([]linkAddress, error) {
	list, err := addressesLike(like)
	if err != nil {
		return nil, err
	}
	var have []linkAddress
	for _, each := range list {
		prefix, ok := toPrefix(each.IPNet)
		link, err := net.InterfaceByIndex(each.LinkIndex)
		if !ok || err != nil {
			continue // links of pods come and go
		}
		have = append(have, linkAddress{link.Name, prefix, !isVirtual(each)})
	}
	return have, nil
}

func addressesLike(like netip.Addr) ([]netlink.Addr, error) {
	family := netlink.FAMILY_V6
	if like.Is4() {
		family = netlink.FAMILY_V4
	}
	list, err := netlink.AddrList(nil, family)
	if err != nil {
		return nil, fmt.Errorf("list the addresses of all links: %w", err)
	}
	return list, nil
}

// virtual is how an address is added that is not the machine's own: without its
// subnet, and so that the machine's own connections do not begin there. IPv4
// knows that by the scope, which setAddresses leaves alone; IPv6 by a preferred
// life of zero. What another node held a moment ago would fail the search for
// duplicates, which therefore is left out.
func virtual(address netip.Addr) *netlink.Addr {
	prefix := toIPNet(netip.PrefixFrom(address, address.BitLen()))
	if address.Is4() {
		return &netlink.Addr{IPNet: prefix, Scope: unix.RT_SCOPE_LINK}
	}
	return &netlink.Addr{IPNet: prefix, Flags: unix.IFA_F_NODAD, ValidLft: math.MaxUint32}
}

// isVirtual tells whether an address of a link was added so.
func isVirtual(address netlink.Addr) bool {
	if bits, size := address.Mask.Size(); bits != size {
		return false
	}
	if address.IP.To4() != nil {
		return address.Scope == unix.RT_SCOPE_LINK
	}
	return address.Flags&unix.IFA_F_NODAD != 0 && address.Flags&unix.IFA_F_DEPRECATED != 0
}

// add implements links.
func (kernelLinks) add(p placement) error {
	link, err := netlink.LinkByName(p.link)
	if err != nil {
		return fmt.Errorf("link %s: %w", p.link, err)
	}
	if err := netlink.AddrReplace(link, virtual(p.address)); err != nil {
		return fmt.Errorf("add the virtual IP %s to %s: %w", p.address, p.link, err)
	}
	return nil
}

// remove implements links.
func (kernelLinks) remove(address netip.Addr) error {
	list, err := addressesLike(address)
	if err != nil {
		return err
	}
	for _, each := range list {
		if prefix, ok := toPrefix(each.IPNet); !ok || prefix.Addr() != address || !isVirtual(each) {
			continue
		}
		// Each names its link itself.
		if err := netlink.AddrDel(nil, &each); err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) {
			return fmt.Errorf("remove the virtual IP %s: %w", address, err)
		}
	}
	return nil
}

// announce implements links.
func (kernelLinks) announce(p placement) error {
	link, err := net.InterfaceByName(p.link)
	if err != nil {
		return fmt.Errorf("link %s: %w", p.link, err)
	}
	// The protocol of none: this socket only sends.
	conn, err := packet.Listen(link, packet.Raw, 0, nil)
	if err != nil {
		return fmt.Errorf("announce %s on %s: %w", p.address, p.link, err)
	}
	defer conn.Close()
	frame, to := announcement(link.HardwareAddr, p.address)
	if _, err := conn.WriteTo(frame, &packet.Addr{HardwareAddr: to}); err != nil {
		return fmt.Errorf("announce %s on %s: %w", p.address, p.link, err)
	}
	return nil
}
