package main

import (
	"cmp"
	"slices"
)

// choice is what picking looks at in one upstream.
type choice struct {
	address     string
	state       state
	prefer      bool
	connections int
	random      uint32 // decides between equals
}

// order is in which order upstreams are tried for a new connection: by their
// state; of equal state first the preferred one, then the one with the fewest
// connections. The worst come last, but they come: what is known of them is
// some seconds old.
func order(choices []choice) []string {
	sorted := slices.SortedFunc(slices.Values(choices), func(a, b choice) int {
		return cmp.Or(
			-cmp.Compare(a.state, b.state),
			compareBool(b.prefer, a.prefer),
			cmp.Compare(a.connections, b.connections),
			cmp.Compare(a.random, b.random),
		)
	})
	var addresses []string
	for _, each := range sorted {
		addresses = append(addresses, each.address)
	}
	return addresses
}

// compareBool sorts false before true.
func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}
