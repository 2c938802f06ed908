package vnet

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"
)

const (
	dnsPort = 53
	// upstreamTimeout bounds one query to one of the host's resolvers.
	upstreamTimeout = 4 * time.Second
	// upstreamQueries bounds the queries under way at once.
	upstreamQueries = 128
)

// resolvConf names the host's resolvers; asked only if Internet is on.
const resolvConf = "/etc/resolv.conf"

// dnsService answers for the network's own names and refuses the rest, or
// passes it to the host's resolvers if Internet is on.
type dnsService struct {
	names    map[string]netip.Addr
	zone     string
	upstream []string
	queries  *semaphore.Weighted
	udp, tcp dns.Server
}

func newDNS(g *Gateway) (*dnsService, error) {
	s := &dnsService{
		names:   map[string]netip.Addr{},
		zone:    dns.CanonicalName(g.Domain),
		queries: semaphore.NewWeighted(upstreamQueries),
	}
	for _, lease := range append([]Lease{{Name: GatewayPort, IP: g.Addr.Addr()}}, g.Leases...) {
		s.names[dns.CanonicalName(lease.Name)] = lease.IP
		s.names[dns.CanonicalName(lease.Name+"."+g.Domain)] = lease.IP
	}
	if g.Internet {
		host, err := dns.ClientConfigFromFile(resolvConf)
		if err != nil {
			return nil, fmt.Errorf("find the host's resolvers in %s: %w", resolvConf, err)
		}
		for _, server := range host.Servers {
			s.upstream = append(s.upstream, net.JoinHostPort(server, host.Port))
		}
	}
	packets, err := g.host.listenUDP(dnsPort)
	if err != nil {
		return nil, err
	}
	listener, err := g.host.listenTCP(dnsPort)
	if err != nil {
		return nil, err
	}
	s.udp = dns.Server{PacketConn: packets, Handler: s}
	s.tcp = dns.Server{Listener: listener, Handler: s}
	return s, nil
}

func (s *dnsService) serve(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	defer context.AfterFunc(ctx, func() {
		// Shutdown wakes idle connections, which Close would leave to their
		// timeout, and does nothing before the server is up; Close ends the rest.
		_, _ = s.udp.ShutdownContext(ctx), s.tcp.ShutdownContext(ctx)
		s.udp.PacketConn.Close()
		s.tcp.Listener.Close()
	})()
	group.Go(s.udp.ActivateAndServe)
	group.Go(s.tcp.ActivateAndServe)
	return group.Wait()
}

// ServeDNS implements dns.Handler.
func (s *dnsService) ServeDNS(w dns.ResponseWriter, query *dns.Msg) {
	reply := s.answer(query)
	if reply == nil {
		reply = s.ask(w.RemoteAddr().Network(), query)
	}
	// A client that is gone asks again if it still wants to know.
	_ = w.WriteMsg(reply)
}

// answer decides the reply from what the gateway knows itself; nil means that
// an upstream resolver has to be asked.
func (s *dnsService) answer(query *dns.Msg) *dns.Msg {
	if len(query.Question) != 1 {
		return new(dns.Msg).SetRcode(query, dns.RcodeFormatError)
	}
	question := query.Question[0]
	name := dns.CanonicalName(question.Name)
	addr, known := s.names[name]
	switch {
	case known:
		reply := new(dns.Msg).SetReply(query)
		reply.Authoritative = true
		if question.Qtype == dns.TypeA {
			reply.Answer = []dns.RR{&dns.A{
				Hdr: dns.RR_Header{Name: question.Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 60},
				A:   net.IP(addr.AsSlice()),
			}}
		}
		return reply
	case name == s.zone || strings.HasSuffix(name, "."+s.zone):
		return new(dns.Msg).SetRcode(query, dns.RcodeNameError)
	case len(s.upstream) == 0:
		return new(dns.Msg).SetRcode(query, dns.RcodeRefused)
	}
	return nil
}

// ask passes the query to the host's resolvers, in their order.
func (s *dnsService) ask(network string, query *dns.Msg) *dns.Msg {
	failed := new(dns.Msg).SetRcode(query, dns.RcodeServerFailure)
	if !s.queries.TryAcquire(1) {
		return failed
	}
	defer s.queries.Release(1)
	client := dns.Client{Net: network, Timeout: upstreamTimeout}
	for _, server := range s.upstream {
		if reply, _, err := client.Exchange(query, server); err == nil {
			return reply
		}
	}
	return failed
}
