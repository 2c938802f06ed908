package network

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
)

// lease is what a DHCP server granted.
type lease struct {
	ack     *dhcpv4.DHCPv4
	address netip.Prefix
	server  netip.Addr
	routes  []route
	dns     []netip.Addr
	name    string // option 12, as sent
	domain  string
	mtu     int // zero: not said

	renew, rebind, expire time.Time
}

// route leads to a network; an invalid gateway means that it is on the link.
type route struct {
	to      netip.Prefix
	gateway netip.Addr
}

var anywhere = netip.PrefixFrom(netip.IPv4Unspecified(), 0)

const (
	// Servers that say nothing get asked again after an hour.
	defaultLeaseTime = time.Hour
	// RFC 2132: all ones mean for ever; ten years are as good, and add up.
	longestLease = 10 * 365 * 24 * time.Hour
	// RFC 791: what every host must take.
	minMTU = 576
)

// parseLease checks an acknowledgement received at now.
func parseLease(ack *dhcpv4.DHCPv4, now time.Time) (lease, error) {
	address, ok := netip.AddrFromSlice(ack.YourIPAddr.To4())
	if !ok || !address.IsGlobalUnicast() {
		return lease{}, fmt.Errorf("the DHCP server offers the address %s", ack.YourIPAddr)
	}
	bits, _ := ack.SubnetMask().Size()
	if bits == 0 {
		// No mask, or one with holes: all that is certain is the address.
		bits = address.BitLen()
	}
	l := lease{
		ack:     ack,
		address: netip.PrefixFrom(address, bits),
		dns:     addresses(ack.DNS()),
		name:    ack.HostName(),
		domain:  ack.DomainName(),
	}
	if servers := addresses([]net.IP{ack.ServerIdentifier()}); len(servers) == 1 {
		l.server = servers[0]
	}
	if mtu := ack.Options.Get(dhcpv4.OptionInterfaceMTU); len(mtu) == 2 && binary.BigEndian.Uint16(mtu) >= minMTU {
		l.mtu = int(binary.BigEndian.Uint16(mtu))
	}
	l.routes = routesOf(ack)
	return l, l.setTimes(ack, now)
}

// setTimes applies RFC 2131, 4.4.5: renewing starts at half the time, rebinding
// at seven eighths, unless the server says otherwise in a sensible order.
func (l *lease) setTimes(ack *dhcpv4.DHCPv4, now time.Time) error {
	total := min(ack.IPAddressLeaseTime(defaultLeaseTime), longestLease)
	if total < time.Second {
		return errors.New("the DHCP server offers a lease of no time")
	}
	rebind := ack.IPAddressRebindingTime(total * 7 / 8)
	if rebind <= 0 || rebind >= total {
		rebind = total * 7 / 8
	}
	renew := ack.IPAddressRenewalTime(total / 2)
	if renew <= 0 || renew >= rebind {
		renew = min(total/2, rebind*4/7)
	}
	l.renew, l.rebind, l.expire = now.Add(renew), now.Add(rebind), now.Add(total)
	return nil
}

// leaseStep is what to do about a lease.
type leaseStep int

const (
	renewLease  leaseStep = iota // ask the server that granted it
	rebindLease                  // ask any server
	giveUpLease                  // stop using the address
)

// next says what to do next and when. Between two attempts half of the time
// that is left passes, but at least a minute while there is one (RFC 2131,
// 4.4.5), so that a silent server is not flooded.
func (l *lease) next(now time.Time) (leaseStep, time.Time) {
	retry := func(until time.Time) time.Time {
		left := until.Sub(now)
		return now.Add(min(left, max(left/2, time.Minute)))
	}
	switch {
	case now.Before(l.renew):
		return renewLease, l.renew
	case now.Before(l.rebind):
		at := retry(l.rebind)
		if at.Before(l.rebind) {
			return renewLease, at
		}
		return rebindLease, l.rebind
	case now.Before(l.expire):
		at := retry(l.expire)
		if at.Before(l.expire) {
			return rebindLease, at
		}
	}
	return giveUpLease, l.expire
}

// routesOf follows RFC 3442: classless routes replace the router option.
func routesOf(ack *dhcpv4.DHCPv4) []route {
	var routes []route
	for _, r := range ack.ClasslessStaticRoute() {
		to, ok := netip.AddrFromSlice(r.Dest.IP.To4())
		bits, _ := r.Dest.Mask.Size()
		if !ok {
			continue
		}
		gateway, _ := netip.AddrFromSlice(r.Router.To4())
		if gateway.IsUnspecified() {
			gateway = netip.Addr{}
		}
		routes = append(routes, route{netip.PrefixFrom(to, bits).Masked(), gateway})
	}
	if len(routes) > 0 {
		return routes
	}
	if routers := addresses(ack.Router()); len(routers) > 0 {
		routes = append(routes, route{anywhere, routers[0]})
	}
	return routes
}

// addresses keeps the IPv4 addresses that a host can have.
func addresses(ips []net.IP) []netip.Addr {
	var list []netip.Addr
	for _, ip := range ips {
		if address, ok := netip.AddrFromSlice(ip.To4()); ok && !address.IsUnspecified() && !address.IsMulticast() {
			list = append(list, address)
		}
	}
	return list
}
