package vnet

import (
	"context"
	"encoding/binary"
	"fmt"
	"log/slog"
	"net"
	"net/netip"

	"golang.org/x/sync/errgroup"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
)

// GatewayPort is the gateway's port name in fault rules.
const GatewayPort = "gateway"

// gatewayMAC is locally administered, outside the 52:54:00 that guests use.
var gatewayMAC = net.HardwareAddr{0x52, 0x55, 0, 0, 0, 1}

// Lease ties a guest's MAC address to its address and name.
type Lease struct {
	MAC  net.HardwareAddr
	IP   netip.Addr
	Name string
}

// GatewayOptions say what the gateway is and what it offers.
type GatewayOptions struct {
	// Addr is the gateway's address with the length of the network's prefix.
	Addr   netip.Prefix
	Leases []Lease
	// Domain is the DNS zone that holds the names of the leases.
	Domain string
	// Internet lets guests out: their connections are made by this process,
	// and DNS queries go to the host's resolvers. Without it nothing leaves.
	Internet bool
	Log      *slog.Logger
}

// Gateway is the network's first address: DHCP server, DNS server, and the
// end of the forwards that lead from the host to the guests.
type Gateway struct {
	GatewayOptions
	host *host
	dhcp *dhcpService
	dns  *dnsService
}

// NewGateway plugs a gateway into the switch. Run makes it work; if Run is
// not called, Close must be.
func NewGateway(sw *Switch, opts GatewayOptions) (*Gateway, error) {
	h, err := newHost(sw, GatewayPort, gatewayMAC, opts.Addr)
	if err != nil {
		return nil, err
	}
	g := &Gateway{GatewayOptions: opts, host: h}
	if err := g.listen(); err != nil {
		h.close()
		return nil, err
	}
	return g, nil
}

func (g *Gateway) listen() (err error) {
	if g.dhcp, err = newDHCP(g); err != nil {
		return err
	}
	if g.dns, err = newDNS(g); err != nil {
		return err
	}
	if g.Internet {
		return nil
	}
	// As a router without a route out the stack answers packets for the
	// outside with "network unreachable": guests fail at once, not by timeout.
	return firstError(g.host.stack.SetForwardingDefaultAndAllNICs(ipv4.ProtocolNumber, true))
}

// Run serves until ctx ends, then closes the gateway.
func (g *Gateway) Run(ctx context.Context) error {
	defer g.Close()
	group, groupCtx := errgroup.WithContext(ctx)
	if g.Internet {
		if err := g.letOut(groupCtx); err != nil {
			return fmt.Errorf("open the way out of the cluster's network: %w", err)
		}
	}
	group.Go(func() error { return g.host.run(groupCtx, g.admit) })
	group.Go(func() error { return g.dhcp.serve(groupCtx) })
	group.Go(func() error { return g.dns.serve(groupCtx) })
	if err := group.Wait(); ctx.Err() == nil {
		return err
	}
	return ctx.Err() // whoever noticed first, this is why
}

// Close unplugs the gateway.
func (g *Gateway) Close() { g.host.close() }

// DialTCP connects to a guest from the gateway's address.
func (g *Gateway) DialTCP(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
	return g.host.dialTCP(ctx, to)
}

// Offsets into an Ethernet frame that carries ARP or IPv4 (RFC 826, RFC 791).
const (
	etherTypeAt  = 12
	arpOpAt      = minFrame + 6
	arpSenderAt  = minFrame + 14
	arpTargetAt  = minFrame + 24
	arpEnd       = minFrame + 28
	ipv4TargetAt = minFrame + 16
	ipv4End      = minFrame + 20
)

// admit says whether the stack may see a frame. It drops what a router would
// not take, even where the stack would: frames for other MAC addresses, ARP
// requests for other hosts (with spoofing on, the stack would answer them),
// and packets between guests (routing them would bypass the fault rules).
func (g *Gateway) admit(frame []byte) bool {
	dst := hardwareAddr(frame[0:6])
	if !dst.isGroup() && dst != hardwareAddr(g.host.mac) {
		return false
	}
	switch kind := binary.BigEndian.Uint16(frame[etherTypeAt:]); {
	case kind == 0x0806 && len(frame) >= arpEnd:
		return g.admitARP(frame)
	case kind == 0x0800 && len(frame) >= ipv4End:
		target := netip.AddrFrom4([4]byte(frame[ipv4TargetAt:ipv4End]))
		return dst.isGroup() || target == g.Addr.Addr() || !g.Addr.Contains(target)
	}
	return true
}

func (g *Gateway) admitARP(frame []byte) bool {
	sender := netip.AddrFrom4([4]byte(frame[arpSenderAt:]))
	target := netip.AddrFrom4([4]byte(frame[arpTargetAt:]))
	if sender == target {
		// Gratuitous ARP: an address moved. The stack would keep the old
		// neighbour for many seconds; forgetting it makes it ask again. An
		// unknown neighbour is an error that changes nothing.
		_ = g.host.stack.RemoveNeighbor(nic, ipv4.ProtocolNumber, address(sender))
	}
	const request = 1
	return binary.BigEndian.Uint16(frame[arpOpAt:]) != request || target == g.Addr.Addr()
}
