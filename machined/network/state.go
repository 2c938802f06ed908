package network

import (
	"net/netip"
	"slices"
)

// State is what the network is at one moment.
type State struct {
	// NodeIP is the address the other nodes know this one by; invalid while no
	// link has an address.
	NodeIP netip.Addr
	// Hostname stays the same from the first address until the next boot.
	Hostname string
	// Nameservers to ask, at most three.
	Nameservers []netip.Addr
	// Domain is the search domain that DHCP gave; it may be empty.
	Domain string
	// Addresses are all addresses of the configured links.
	Addresses []netip.Prefix
}

// linkState is what one link has at this moment.
type linkState struct {
	settings linkSettings
	order    int
	mac      string
	lease    *lease // nil: none
}

// stateOf puts the links' states together.
func stateOf(links []*linkState, hostname string, nameservers []netip.Addr) State {
	var s State
	var candidates []candidate
	var names [][]netip.Addr
	var dhcpName, mac string
	for _, link := range links {
		for _, address := range link.settings.addresses {
			s.Addresses = append(s.Addresses, address)
			candidates = append(candidates, candidate{
				address: address.Addr(),
				order:   link.order,
				gateway: link.settings.gateway.IsValid(),
				static:  true,
			})
		}
		if mac == "" {
			mac = link.mac
		}
		if link.lease == nil {
			continue
		}
		s.Addresses = append(s.Addresses, link.lease.address)
		candidates = append(candidates, candidate{
			address: link.lease.address.Addr(),
			order:   link.order,
			gateway: slices.ContainsFunc(link.lease.routes, func(r route) bool { return r.to.Bits() == 0 }),
		})
		names = append(names, link.lease.dns)
		if s.Domain == "" {
			s.Domain, _ = searchDomain(link.lease.domain)
		}
		if _, ok := dnsLabel(link.lease.name); ok && dhcpName == "" {
			dhcpName = link.lease.name
		}
	}
	s.NodeIP = chooseNodeIP(candidates)
	s.Hostname = chooseHostname(hostname, dhcpName, mac)
	s.Nameservers = mergeNameservers(nameservers, names...)
	return s
}
