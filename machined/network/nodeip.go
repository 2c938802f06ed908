package network

import (
	"cmp"
	"net/netip"
	"slices"
)

// candidate is an address that could be the node's.
type candidate struct {
	address netip.Addr
	// order is the link's place in the config, or among the links.
	order   int
	gateway bool // its link has a default route
	static  bool // it stands in the config
}

// chooseNodeIP picks the address by which the other nodes know this one: IPv4
// before IPv6, as pods are IPv4; then one that reaches beyond its own network;
// then a fixed one; then by order, so that every boot picks the same. Invalid
// means that there is none.
func chooseNodeIP(candidates []candidate) netip.Addr {
	usable := slices.DeleteFunc(slices.Clone(candidates), func(c candidate) bool {
		return !c.address.IsGlobalUnicast() // no loopback, link-local, multicast
	})
	if len(usable) == 0 {
		return netip.Addr{}
	}
	first := func(a, b bool) int {
		switch {
		case a == b:
			return 0
		case a:
			return -1
		}
		return 1
	}
	return slices.MinFunc(usable, func(a, b candidate) int {
		return cmp.Or(
			first(a.address.Is4(), b.address.Is4()),
			first(a.gateway, b.gateway),
			first(a.static, b.static),
			cmp.Compare(a.order, b.order),
			a.address.Compare(b.address),
		)
	}).address
}
