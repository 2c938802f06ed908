package vnet

import (
	"context"
	"fmt"
	"net"
	"net/netip"

	"golang.org/x/sync/errgroup"
	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/link/channel"
	"gvisor.dev/gvisor/pkg/tcpip/link/ethernet"
	"gvisor.dev/gvisor/pkg/tcpip/network/arp"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/icmp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
	"gvisor.dev/gvisor/pkg/waiter"
)

// mtu in bytes; larger gained little under emulation, and this is what a node meets elsewhere.
const mtu = 1500

// nic is the id of a host's only network interface.
const nic tcpip.NICID = 1

// tcpRetries bounds how long a connection to a guest that is gone lives:
// about a minute and a half, where the stack's default is a quarter of an hour.
const tcpRetries = 8

// host is a TCP/IP stack in user space, plugged into a switch port.
type host struct {
	port  *Port
	mac   net.HardwareAddr
	addr  netip.Prefix
	link  *channel.Endpoint
	stack *stack.Stack
}

// newHost plugs a stack with the given address into the switch. It passes no
// frames until run is called; close must be called in any case.
func newHost(sw *Switch, name string, mac net.HardwareAddr, addr netip.Prefix) (*host, error) {
	port, err := sw.Attach(name)
	if err != nil {
		return nil, err
	}
	h := &host{
		port: port,
		mac:  mac,
		addr: addr,
		link: channel.New(queueFrames, mtu+minFrame, tcpip.LinkAddress(mac)),
		stack: stack.New(stack.Options{
			NetworkProtocols:   []stack.NetworkProtocolFactory{ipv4.NewProtocol, arp.NewProtocol},
			TransportProtocols: []stack.TransportProtocolFactory{tcp.NewProtocol, udp.NewProtocol, icmp.NewProtocol4},
		}),
	}
	if err := h.configure(); err != nil {
		h.close()
		return nil, fmt.Errorf("set up network stack of %s: %w", name, err)
	}
	return h, nil
}

func (h *host) configure() error {
	sack := tcpip.TCPSACKEnabled(true)
	retries := tcpip.TCPMaxRetriesOption(tcpRetries)
	subnet, err := tcpip.NewSubnet(address(h.addr.Masked().Addr()), tcpip.MaskFromBytes(net.CIDRMask(h.addr.Bits(), 32)))
	if err != nil {
		return err
	}
	h.stack.SetRouteTable([]tcpip.Route{{Destination: subnet, NIC: nic}})
	return firstError(
		h.stack.SetTransportProtocolOption(tcp.ProtocolNumber, &sack),
		h.stack.SetTransportProtocolOption(tcp.ProtocolNumber, &retries),
		h.stack.CreateNIC(nic, ethernet.New(h.link)),
		h.stack.AddProtocolAddress(nic, tcpip.ProtocolAddress{
			Protocol:          ipv4.ProtocolNumber,
			AddressWithPrefix: tcpip.AddressWithPrefix{Address: address(h.addr.Addr()), PrefixLen: h.addr.Bits()},
		}, stack.AddressProperties{}),
	)
}

// run moves frames between the stack and its port until ctx ends. admit says
// which frames the stack gets to see.
func (h *host) run(ctx context.Context, admit func(frame []byte) bool) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		for {
			frame, err := h.port.Receive(ctx)
			if err != nil {
				return err
			}
			if !admit(frame) {
				continue
			}
			// MakeWithData copies: other ports may share the frame.
			packet := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithData(frame)})
			h.link.InjectInbound(0, packet)
			packet.DecRef()
		}
	})
	group.Go(func() error {
		for {
			packet := h.link.ReadContext(ctx)
			if packet == nil {
				return context.Cause(ctx)
			}
			view := packet.ToView()
			packet.DecRef()
			h.port.Send(append([]byte(nil), view.AsSlice()...))
			view.Release()
		}
	})
	return group.Wait()
}

func (h *host) close() {
	h.port.Detach()
	h.link.Close()
	h.stack.Destroy()
}

// dialTCP connects to an address on the virtual network.
func (h *host) dialTCP(ctx context.Context, to netip.AddrPort) (*gonet.TCPConn, error) {
	conn, err := gonet.DialContextTCP(ctx, h.stack, fullAddress(to), ipv4.ProtocolNumber)
	if err != nil {
		return nil, fmt.Errorf("connect to %s on the cluster's network: %w", to, err)
	}
	return conn, nil
}

func (h *host) listenTCP(port uint16) (net.Listener, error) {
	at := netip.AddrPortFrom(h.addr.Addr(), port)
	listener, err := gonet.ListenTCP(h.stack, fullAddress(at), ipv4.ProtocolNumber)
	if err != nil {
		return nil, fmt.Errorf("listen on %s/tcp of the cluster's network: %w", at, err)
	}
	return listener, nil
}

func (h *host) listenUDP(port uint16) (net.PacketConn, error) {
	at := netip.AddrPortFrom(h.addr.Addr(), port)
	local := fullAddress(at)
	conn, err := gonet.DialUDP(h.stack, &local, nil, ipv4.ProtocolNumber)
	if err != nil {
		return nil, fmt.Errorf("listen on %s/udp of the cluster's network: %w", at, err)
	}
	return conn, nil
}

// listenBroadcast listens for UDP on every address, broadcasts included, and
// may send broadcasts.
func (h *host) listenBroadcast(port uint16) (net.PacketConn, error) {
	var events waiter.Queue
	endpoint, err := h.stack.NewEndpoint(udp.ProtocolNumber, ipv4.ProtocolNumber, &events)
	if err != nil {
		return nil, fmt.Errorf("make a UDP socket on the cluster's network: %s", err)
	}
	endpoint.SocketOptions().SetBroadcast(true)
	if err := endpoint.Bind(tcpip.FullAddress{NIC: nic, Port: port}); err != nil {
		endpoint.Close()
		return nil, fmt.Errorf("listen on broadcast port %d of the cluster's network: %s", port, err)
	}
	return gonet.NewUDPConn(&events, endpoint), nil
}

func address(a netip.Addr) tcpip.Address { return tcpip.AddrFrom4(a.As4()) }

func fullAddress(at netip.AddrPort) tcpip.FullAddress {
	return tcpip.FullAddress{NIC: nic, Addr: address(at.Addr()), Port: at.Port()}
}

// firstError makes a plain error of the stack's own kind.
func firstError(errs ...tcpip.Error) error {
	for _, err := range errs {
		if err != nil {
			return fmt.Errorf("%s", err)
		}
	}
	return nil
}
