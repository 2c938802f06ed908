package network

import (
	"fmt"
	"net/netip"
	"strings"
)

// chooseLink finds the link for a virtual IP: the one in whose subnet it lies,
// the narrowest if there are several.
func chooseLink(have []linkAddress, address netip.Addr) (placement, error) {
	best := linkAddress{}
	var subnets []string
	for _, each := range have {
		if !each.own || each.link == DNSLink || !each.prefix.Addr().IsGlobalUnicast() {
			continue
		}
		if each.prefix.Addr() == address {
			return placement{}, fmt.Errorf("the virtual IP %s is the address of %s itself: choose one that no machine has (cluster.controlPlane.virtualIPs)", address, each.link)
		}
		if each.prefix.IsSingleIP() {
			continue
		}
		subnets = append(subnets, each.prefix.Masked().String()+" on "+each.link)
		if each.prefix.Contains(address) && (best.link == "" || each.prefix.Bits() > best.prefix.Bits()) {
			best = each
		}
	}
	if best.link == "" {
		if subnets == nil {
			subnets = []string{"none"}
		}
		return placement{}, fmt.Errorf("the virtual IP %s is in no subnet of this node: choose one of a subnet that all control-plane nodes are in (cluster.controlPlane.virtualIPs); its subnets: %s",
			address, strings.Join(subnets, ", "))
	}
	return placement{best.link, address}, nil
}
