package vnet

import (
	"context"
	"io"
	"net"
	"net/netip"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
	"gvisor.dev/gvisor/pkg/waiter"
)

const (
	// pendingTCP bounds guests' connections that are still being made.
	pendingTCP = 128
	// udpSessions bounds guests' UDP conversations with the outside.
	udpSessions = 512
	// udpIdle ends a UDP conversation; RFC 4787 asks for two minutes or more.
	udpIdle = 2 * time.Minute
)

// letOut makes the gateway answer for every address outside the network: it
// ends each guest's connection here and makes it anew from the host.
func (g *Gateway) letOut(ctx context.Context) error {
	st := g.host.stack
	if err := firstError(st.SetPromiscuousMode(nic, true), st.SetSpoofing(nic, true)); err != nil {
		return err
	}
	streams := tcp.NewForwarder(st, 0, pendingTCP, func(r *tcp.ForwarderRequest) { connectOut(ctx, r) })
	sessions := semaphore.NewWeighted(udpSessions)
	packets := udp.NewForwarder(st, func(r *udp.ForwarderRequest) {
		if !sessions.TryAcquire(1) {
			return // the packet is lost, as on any overloaded router
		}
		// At once, not in the goroutine: the conversation's next packet must
		// find the endpoint and not come here again.
		var events waiter.Queue
		endpoint, err := r.CreateEndpoint(&events)
		if err != nil {
			sessions.Release(1)
			return
		}
		go func() {
			defer sessions.Release(1)
			exchangeOut(ctx, gonet.NewUDPConn(&events, endpoint), r.ID())
		}()
	})
	// A handler that answers false makes the stack refuse, as for a closed port.
	st.SetTransportProtocolHandler(tcp.ProtocolNumber, func(id stack.TransportEndpointID, p *stack.PacketBuffer) bool {
		return g.isOutside(id.LocalAddress) && streams.HandlePacket(id, p)
	})
	st.SetTransportProtocolHandler(udp.ProtocolNumber, func(id stack.TransportEndpointID, p *stack.PacketBuffer) bool {
		return g.isOutside(id.LocalAddress) && packets.HandlePacket(id, p)
	})
	return nil
}

// isOutside tells addresses worth dialling from the host: not this network's,
// nor such as would mean the host itself or its own links.
func (g *Gateway) isOutside(a tcpip.Address) bool {
	addr := netip.AddrFrom4(a.As4())
	return addr.IsGlobalUnicast() && !g.Addr.Contains(addr)
}

func connectOut(ctx context.Context, r *tcp.ForwarderRequest) {
	outer, err := dialOut(ctx, "tcp", r.ID())
	if err != nil {
		r.Complete(true)
		return
	}
	var events waiter.Queue
	endpoint, tcpErr := r.CreateEndpoint(&events)
	r.Complete(false)
	if tcpErr != nil { // the guest gave up meanwhile
		outer.Close()
		return
	}
	splice(ctx, gonet.NewTCPConn(&events, endpoint), outer)
}

// exchangeOut carries one UDP conversation until it is idle, either side
// closes, or ctx ends.
func exchangeOut(ctx context.Context, inner *gonet.UDPConn, id stack.TransportEndpointID) {
	defer inner.Close()
	outer, err := dialOut(ctx, "udp", id)
	if err != nil {
		return
	}
	defer outer.Close()
	defer context.AfterFunc(ctx, func() {
		inner.Close()
		outer.Close()
	})()
	var group errgroup.Group
	group.Go(func() error { return copyPackets(outer, inner) })
	group.Go(func() error { return copyPackets(inner, outer) })
	_ = group.Wait() // idle, or closed: its normal ends
}

func dialOut(ctx context.Context, network string, id stack.TransportEndpointID) (net.Conn, error) {
	to := netip.AddrPortFrom(netip.AddrFrom4(id.LocalAddress.As4()), id.LocalPort)
	return (&net.Dialer{Timeout: dialTimeout}).DialContext(ctx, network, to.String())
}

// copyPackets copies until there was no packet for udpIdle.
func copyPackets(to io.Writer, from net.Conn) error {
	packet := make([]byte, 65536)
	for {
		if err := from.SetReadDeadline(time.Now().Add(udpIdle)); err != nil {
			return err
		}
		n, err := from.Read(packet)
		if err != nil {
			return err
		}
		if _, err := to.Write(packet[:n]); err != nil {
			return err
		}
	}
}
