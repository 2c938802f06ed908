package vnet

import (
	"context"
	"net"
	"net/netip"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv4/server4"
)

// leaseTime is long next to a test's life: guests renew at half of it.
const leaseTime = time.Hour

// dhcpService answers DHCP with the fixed leases, and nobody else.
type dhcpService struct {
	gateway *Gateway
	server  *server4.Server
}

func newDHCP(g *Gateway) (*dhcpService, error) {
	conn, err := g.host.listenBroadcast(dhcpv4.ServerPort)
	if err != nil {
		return nil, err
	}
	s := &dhcpService{gateway: g}
	s.server, err = server4.NewServer("", nil, s.handle, server4.WithConn(conn))
	return s, err
}

func (s *dhcpService) serve(ctx context.Context) error {
	defer context.AfterFunc(ctx, func() { s.server.Close() })()
	return s.server.Serve()
}

func (s *dhcpService) handle(conn net.PacketConn, peer net.Addr, request *dhcpv4.DHCPv4) {
	reply, err := s.gateway.answerDHCP(request)
	if err != nil {
		s.gateway.Log.Warn("DHCP request cannot be answered", "mac", request.ClientHWAddr.String(), "error", err)
		return
	}
	if reply == nil {
		return
	}
	if reply.MessageType() == dhcpv4.MessageTypeNak {
		// The client's own idea of its address is wrong: RFC 2131 4.3.2 wants a broadcast.
		peer = &net.UDPAddr{IP: net.IPv4bcast, Port: dhcpv4.ClientPort}
	}
	if _, err := conn.WriteTo(reply.ToBytes(), peer); err != nil {
		s.gateway.Log.Warn("DHCP reply was not sent", "mac", request.ClientHWAddr.String(), "error", err)
	}
}

// answerDHCP decides the reply to a request; nil means silence.
func (g *Gateway) answerDHCP(request *dhcpv4.DHCPv4) (*dhcpv4.DHCPv4, error) {
	lease, known := g.leaseOf(request.ClientHWAddr)
	if !known {
		return nil, nil
	}
	gateway := net.IP(g.Addr.Addr().AsSlice())
	if server := request.ServerIdentifier(); server != nil && !server.Equal(gateway) {
		return nil, nil // the client chose another server
	}
	answer := dhcpv4.MessageTypeAck
	switch request.MessageType() {
	case dhcpv4.MessageTypeDiscover:
		answer = dhcpv4.MessageTypeOffer
	case dhcpv4.MessageTypeRequest:
		if asked := requestedAddress(request); asked.IsValid() && asked != lease.IP {
			return dhcpv4.NewReplyFromRequest(request,
				dhcpv4.WithMessageType(dhcpv4.MessageTypeNak),
				dhcpv4.WithOption(dhcpv4.OptServerIdentifier(gateway)))
		}
	case dhcpv4.MessageTypeInform:
	default: // release, decline: leases are fixed
		return nil, nil
	}
	reply, err := dhcpv4.NewReplyFromRequest(request,
		dhcpv4.WithMessageType(answer),
		dhcpv4.WithServerIP(gateway),
		dhcpv4.WithOption(dhcpv4.OptServerIdentifier(gateway)),
		dhcpv4.WithNetmask(net.CIDRMask(g.Addr.Bits(), 32)),
		dhcpv4.WithRouter(gateway),
		dhcpv4.WithDNS(gateway),
		dhcpv4.WithOption(dhcpv4.OptHostName(lease.Name)),
	)
	if err != nil {
		return nil, err
	}
	if request.MessageType() != dhcpv4.MessageTypeInform {
		reply.YourIPAddr = net.IP(lease.IP.AsSlice())
		reply.UpdateOption(dhcpv4.OptIPAddressLeaseTime(leaseTime))
	}
	return reply, nil
}

func (g *Gateway) leaseOf(mac net.HardwareAddr) (Lease, bool) {
	for _, lease := range g.Leases {
		if lease.MAC.String() == mac.String() {
			return lease, true
		}
	}
	return Lease{}, false
}

// requestedAddress is the address a client says is its own: by option when it
// selects or reboots, in the header when it renews.
func requestedAddress(request *dhcpv4.DHCPv4) netip.Addr {
	ip := request.RequestedIPAddress()
	if ip == nil && !request.ClientIPAddr.IsUnspecified() {
		ip = request.ClientIPAddr
	}
	addr, _ := netip.AddrFromSlice(ip.To4())
	return addr
}
