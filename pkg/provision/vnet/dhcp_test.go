package vnet

import (
	"context"
	"net"
	"testing"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

// A guest that has no address yet: raw frames from 0.0.0.0.
func TestDHCPOverTheWire(t *testing.T) {
	sw := NewSwitch()
	startGateway(t, sw, false)
	guest := attach(t, sw, "cp-1")[0]
	discover, err := dhcpv4.NewDiscovery(leases[0].MAC)
	if err != nil {
		t.Fatal(err)
	}
	offer := exchange(t, guest, discover)
	if offer.MessageType() != dhcpv4.MessageTypeOffer {
		t.Fatalf("answer to discover: %s", offer.Summary())
	}
	request, err := dhcpv4.NewRequestFromOffer(offer)
	if err != nil {
		t.Fatal(err)
	}
	ack := exchange(t, guest, request)
	if ack.MessageType() != dhcpv4.MessageTypeAck || ack.YourIPAddr.String() != "10.77.0.11" {
		t.Errorf("answer to request: %s", ack.Summary())
	}
}

// bootpAt is where BOOTP begins in an Ethernet frame with plain IPv4 and UDP headers.
const bootpAt = minFrame + header.IPv4MinimumSize + header.UDPMinimumSize

func exchange(t *testing.T, guest *Port, m *dhcpv4.DHCPv4) *dhcpv4.DHCPv4 {
	t.Helper()
	guest.Send(dhcpFrame(m))
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	defer cancel()
	frame, err := guest.Receive(ctx)
	if err != nil {
		t.Fatalf("no answer to %s: %v", m.MessageType(), err)
	}
	answer, err := dhcpv4.FromBytes(frame[bootpAt:])
	if err != nil {
		t.Fatal(err)
	}
	return answer
}

func dhcpFrame(m *dhcpv4.DHCPv4) []byte {
	payload := m.ToBytes()
	frame := make([]byte, bootpAt, bootpAt+len(payload))
	header.Ethernet(frame).Encode(&header.EthernetFields{
		SrcAddr: tcpip.LinkAddress(m.ClientHWAddr), DstAddr: header.EthernetBroadcastAddress, Type: header.IPv4ProtocolNumber,
	})
	ip := header.IPv4(frame[minFrame:])
	ip.Encode(&header.IPv4Fields{
		TotalLength: uint16(bootpAt - minFrame + len(payload)), TTL: 64, Protocol: uint8(header.UDPProtocolNumber),
		SrcAddr: header.IPv4Any, DstAddr: header.IPv4Broadcast,
	})
	ip.SetChecksum(^ip.CalculateChecksum())
	header.UDP(ip[header.IPv4MinimumSize:]).Encode(&header.UDPFields{ // checksum 0: none
		SrcPort: dhcpv4.ClientPort, DstPort: dhcpv4.ServerPort, Length: uint16(header.UDPMinimumSize + len(payload)),
	})
	return append(frame, payload...)
}

func TestAnswerDHCP(t *testing.T) {
	g := &Gateway{GatewayOptions: GatewayOptions{Addr: gatewayAddr, Leases: leases}}
	known, stranger := leases[1].MAC, net.HardwareAddr{2, 0, 0, 0, 0, 9}
	with := func(mac net.HardwareAddr, kind dhcpv4.MessageType, more ...dhcpv4.Modifier) *dhcpv4.DHCPv4 {
		m, err := dhcpv4.New(append([]dhcpv4.Modifier{dhcpv4.WithHwAddr(mac), dhcpv4.WithMessageType(kind)}, more...)...)
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	asking := func(ip string) dhcpv4.Modifier {
		return dhcpv4.WithOption(dhcpv4.OptRequestedIPAddress(net.ParseIP(ip)))
	}
	tests := map[string]struct {
		request *dhcpv4.DHCPv4
		want    dhcpv4.MessageType // none: silence
	}{
		"discover":         {with(known, dhcpv4.MessageTypeDiscover), dhcpv4.MessageTypeOffer},
		"discover, wishes": {with(known, dhcpv4.MessageTypeDiscover, asking("10.77.0.200")), dhcpv4.MessageTypeOffer},
		"request":          {with(known, dhcpv4.MessageTypeRequest, asking("10.77.0.12")), dhcpv4.MessageTypeAck},
		"renewal":          {with(known, dhcpv4.MessageTypeRequest, dhcpv4.WithClientIP(net.ParseIP("10.77.0.12"))), dhcpv4.MessageTypeAck},
		"wrong address":    {with(known, dhcpv4.MessageTypeRequest, asking("10.77.0.200")), dhcpv4.MessageTypeNak},
		"wrong renewal":    {with(known, dhcpv4.MessageTypeRequest, dhcpv4.WithClientIP(net.ParseIP("10.0.0.1"))), dhcpv4.MessageTypeNak},
		"IPv6 as address":  {with(known, dhcpv4.MessageTypeRequest, dhcpv4.WithGeneric(dhcpv4.OptionRequestedIPAddress, net.ParseIP("fe80::1"))), dhcpv4.MessageTypeAck},
		"inform":           {with(known, dhcpv4.MessageTypeInform), dhcpv4.MessageTypeAck},
		"release":          {with(known, dhcpv4.MessageTypeRelease), dhcpv4.MessageTypeNone},
		"other server":     {with(known, dhcpv4.MessageTypeRequest, dhcpv4.WithOption(dhcpv4.OptServerIdentifier(net.IPv4(10, 77, 0, 2)))), dhcpv4.MessageTypeNone},
		"stranger":         {with(stranger, dhcpv4.MessageTypeDiscover), dhcpv4.MessageTypeNone},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			reply, err := g.answerDHCP(test.request)
			if err != nil {
				t.Fatal(err)
			}
			if reply == nil {
				if test.want != dhcpv4.MessageTypeNone {
					t.Fatalf("silence, want %s", test.want)
				}
				return
			}
			if got := reply.MessageType(); got != test.want {
				t.Fatalf("answer %s, want %s", got, test.want)
			}
			if test.want != dhcpv4.MessageTypeOffer {
				return
			}
			if got := []string{
				reply.YourIPAddr.String(), reply.HostName(), reply.Router()[0].String(),
				reply.DNS()[0].String(), net.IP(reply.SubnetMask()).String(),
			}; !equal(got, "10.77.0.12", "w-1", "10.77.0.1", "10.77.0.1", "255.255.255.0") {
				t.Errorf("offer %v", got)
			}
			if got := reply.IPAddressLeaseTime(0); got != leaseTime {
				t.Errorf("lease time %s, want %s", got, leaseTime)
			}
		})
	}
}
