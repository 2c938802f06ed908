package vnet

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
)

func equal(got []string, want ...string) bool { return slices.Equal(got, want) }

func TestAnswerDNS(t *testing.T) {
	g, err := NewGateway(NewSwitch(), GatewayOptions{Addr: gatewayAddr, Leases: leases, Domain: "demo.internal"})
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	tests := map[string]struct {
		name  string
		kind  uint16
		rcode int
		addr  string
	}{
		"node":            {"cp-1.demo.internal.", dns.TypeA, dns.RcodeSuccess, "10.77.0.11"},
		"bare node":       {"w-1.", dns.TypeA, dns.RcodeSuccess, "10.77.0.12"},
		"any case":        {"CP-1.Demo.Internal.", dns.TypeA, dns.RcodeSuccess, "10.77.0.11"},
		"gateway":         {"gateway.demo.internal.", dns.TypeA, dns.RcodeSuccess, "10.77.0.1"},
		"no IPv6":         {"cp-1.demo.internal.", dns.TypeAAAA, dns.RcodeSuccess, ""},
		"unknown in zone": {"nobody.demo.internal.", dns.TypeA, dns.RcodeNameError, ""},
		"outside":         {"example.com.", dns.TypeA, dns.RcodeRefused, ""},
		"not a suffix":    {"xdemo.internal.", dns.TypeA, dns.RcodeRefused, ""},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			reply := g.dns.answer(new(dns.Msg).SetQuestion(test.name, test.kind))
			if reply == nil {
				t.Fatal("the query would be passed on")
			}
			addr := ""
			if len(reply.Answer) > 0 {
				addr = reply.Answer[0].(*dns.A).A.String()
			}
			if reply.Rcode != test.rcode || addr != test.addr {
				t.Errorf("%s %q, want %s %q", dns.RcodeToString[reply.Rcode], addr, dns.RcodeToString[test.rcode], test.addr)
			}
		})
	}
	if reply := g.dns.answer(new(dns.Msg)); reply.Rcode != dns.RcodeFormatError {
		t.Errorf("no question: %s", dns.RcodeToString[reply.Rcode])
	}
}

// The Go resolver on a fake guest, over UDP and over TCP.
func TestDNSOverTheWire(t *testing.T) {
	sw := NewSwitch()
	startGateway(t, sw, false)
	guest := startGuest(t, sw, leases[0])
	for _, network := range []string{"udp", "tcp"} {
		t.Run(network, func(t *testing.T) {
			resolver := net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return dialDNS(ctx, guest, network)
			}}
			ctx, cancel := context.WithTimeout(t.Context(), deadline)
			defer cancel()
			addrs, err := resolver.LookupHost(ctx, "w-1.demo.internal.")
			if err != nil || !equal(addrs, "10.77.0.12") {
				t.Errorf("addresses %v, error %v", addrs, err)
			}
			if _, err := resolver.LookupHost(ctx, "example.com."); err == nil || strings.Contains(err.Error(), "timeout") {
				t.Errorf("an outside name: %v, want a refusal", err)
			}
		})
	}
}

func dialDNS(ctx context.Context, guest *host, network string) (net.Conn, error) {
	server := netip.AddrPortFrom(gatewayAddr.Addr(), dnsPort)
	if network == "tcp" {
		return guest.dialTCP(ctx, server)
	}
	remote := fullAddress(server)
	conn, err := gonet.DialUDP(guest.stack, nil, &remote, ipv4.ProtocolNumber)
	if err != nil {
		return nil, err
	}
	return packetConn{conn}, nil
}

// packetConn shows the resolver that the connection carries packets.
type packetConn struct{ *gonet.UDPConn }
