package vnet

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

var (
	gatewayAddr = netip.MustParsePrefix("10.77.0.1/24")
	leases      = []Lease{
		{MAC: net.HardwareAddr{0x52, 0x54, 0, 0, 0, 11}, IP: netip.MustParseAddr("10.77.0.11"), Name: "cp-1"},
		{MAC: net.HardwareAddr{0x52, 0x54, 0, 0, 0, 12}, IP: netip.MustParseAddr("10.77.0.12"), Name: "w-1"},
	}
)

// startGateway runs a gateway for the test's time.
func startGateway(t *testing.T, sw *Switch, internet bool) *Gateway {
	t.Helper()
	g, err := NewGateway(sw, GatewayOptions{
		Addr:     gatewayAddr,
		Leases:   leases,
		Domain:   "demo.internal",
		Internet: internet,
		Log:      slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	runUntilEnd(t, g.Run)
	return g
}

// startGuest plugs a fake guest with the lease's address into the switch.
func startGuest(t *testing.T, sw *Switch, lease Lease) *host {
	t.Helper()
	h, err := newHost(sw, lease.Name, lease.MAC, netip.PrefixFrom(lease.IP, gatewayAddr.Bits()))
	if err != nil {
		t.Fatal(err)
	}
	h.stack.AddRoute(tcpip.Route{Destination: header.IPv4EmptySubnet, Gateway: address(gatewayAddr.Addr()), NIC: nic})
	runUntilEnd(t, func(ctx context.Context) error {
		defer h.close()
		return h.run(ctx, func(frame []byte) bool {
			dst := hardwareAddr(frame[:6])
			return dst.isGroup() || dst == hardwareAddr(lease.MAC)
		})
	})
	return h
}

// runUntilEnd runs a service until the test is over and sees that it ends.
func runUntilEnd(t *testing.T, run func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- run(ctx) }()
	t.Cleanup(func() {
		cancel()
		select {
		case <-done:
		case <-time.After(deadline):
			t.Error("a service outlived its context")
		}
	})
}

func dialFrom(t *testing.T, h *host, to string) (net.Conn, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	defer cancel()
	conn, err := h.dialTCP(ctx, netip.MustParseAddrPort(to))
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		t.Fatalf("dialling %s was neither answered nor refused", to)
	}
	return conn, err
}

// echo serves one connection of the listener, saying back what it hears.
func echo(t *testing.T, listener net.Listener) {
	t.Helper()
	runUntilEnd(t, func(ctx context.Context) error {
		defer context.AfterFunc(ctx, func() { listener.Close() })()
		conn, err := listener.Accept()
		if err != nil {
			return err
		}
		defer conn.Close()
		_, err = io.Copy(conn, conn)
		return err
	})
}

// wantEcho says something, half-closes, and wants it back with an end.
func wantEcho(t *testing.T, conn net.Conn) {
	t.Helper()
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(deadline)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, "hello"); err != nil {
		t.Fatal(err)
	}
	if err := conn.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(conn); string(got) != "hello" || err != nil {
		t.Errorf("echo %q, error %v; want %q", got, err, "hello")
	}
}

func TestForwardReachesAGuest(t *testing.T) {
	sw := NewSwitch()
	g := startGateway(t, sw, false)
	guest := startGuest(t, sw, leases[0])
	service, err := guest.listenTCP(50000)
	if err != nil {
		t.Fatal(err)
	}
	echo(t, service)

	conn := dialForward(t, g, "10.77.0.11:50000")
	wantEcho(t, conn)
}

func TestForwardToNobodyHangsUp(t *testing.T) {
	sw := NewSwitch()
	g := startGateway(t, sw, false)
	startGuest(t, sw, leases[0]) // listens on nothing
	conn := dialForward(t, g, "10.77.0.11:50000")
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(deadline)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(conn); errors.Is(err, context.DeadlineExceeded) {
		t.Error("the connection was left open")
	}
}

func dialForward(t *testing.T, g *Gateway, to string) net.Conn {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	runUntilEnd(t, func(ctx context.Context) error {
		return g.Forward(ctx, listener, netip.MustParseAddrPort(to))
	})
	conn, err := net.DialTimeout("tcp", listener.Addr().String(), deadline)
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

func TestGuestsReachEachOther(t *testing.T) {
	sw := NewSwitch()
	a, b := startGuest(t, sw, leases[0]), startGuest(t, sw, leases[1])
	service, err := b.listenTCP(80)
	if err != nil {
		t.Fatal(err)
	}
	echo(t, service)
	conn, err := dialFrom(t, a, "10.77.0.12:80")
	if err != nil {
		t.Fatal(err)
	}
	wantEcho(t, conn)
}

// Nothing may leave: neither to an outside address, nor through a port of the
// gateway that nobody listens on to the same port of the host.
func TestNothingLeaves(t *testing.T) {
	hostService, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer hostService.Close()
	hostPort := netip.MustParseAddrPort(hostService.Addr().String()).Port()

	sw := NewSwitch()
	startGateway(t, sw, false)
	guest := startGuest(t, sw, leases[0])
	for _, to := range []netip.AddrPort{
		netip.AddrPortFrom(gatewayAddr.Addr(), hostPort),
		netip.AddrPortFrom(netip.MustParseAddr("192.0.2.1"), hostPort),
		netip.AddrPortFrom(hostAddress(t), hostPort),
	} {
		if conn, err := dialFrom(t, guest, to.String()); err == nil {
			conn.Close()
			t.Errorf("the guest reached %s", to)
		}
	}
	if err := hostService.(*net.TCPListener).SetDeadline(time.Now()); err != nil {
		t.Fatal(err)
	}
	if _, err := hostService.Accept(); err == nil {
		t.Error("the host was dialled")
	}
}

func TestInternetLetsOutAndNothingElse(t *testing.T) {
	outside := hostAddress(t)
	service, err := net.Listen("tcp", netip.AddrPortFrom(outside, 0).String())
	if err != nil {
		t.Fatal(err)
	}
	echo(t, service)
	packets := udpEcho(t, outside)

	sw := NewSwitch()
	startGateway(t, sw, true)
	guest := startGuest(t, sw, leases[0])

	conn, err := dialFrom(t, guest, service.Addr().String())
	if err != nil {
		t.Fatalf("the guest cannot reach the outside: %v", err)
	}
	wantEcho(t, conn)
	wantUDPEcho(t, guest, packets)

	for _, to := range []string{"10.77.0.1:9", "169.254.169.254:80"} {
		if conn, err := dialFrom(t, guest, to); err == nil {
			conn.Close()
			t.Errorf("the guest reached %s", to)
		}
	}
}

// hostAddress is an address of this machine other than loopback: for a guest
// as far outside as any, and it needs no internet.
func hostAddress(t *testing.T) netip.Addr {
	t.Helper()
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range addrs {
		prefix, err := netip.ParsePrefix(a.String())
		if err == nil && prefix.Addr().Is4() && prefix.Addr().IsGlobalUnicast() && !gatewayAddr.Overlaps(prefix) {
			return prefix.Addr()
		}
	}
	t.Skip("this machine has no IPv4 address beside loopback to play the outside")
	return netip.Addr{}
}

func udpEcho(t *testing.T, at netip.Addr) netip.AddrPort {
	t.Helper()
	conn, err := net.ListenPacket("udp4", netip.AddrPortFrom(at, 0).String())
	if err != nil {
		t.Fatal(err)
	}
	runUntilEnd(t, func(ctx context.Context) error {
		defer context.AfterFunc(ctx, func() { conn.Close() })()
		packet := make([]byte, 100)
		for {
			n, peer, err := conn.ReadFrom(packet)
			if err != nil {
				return err
			}
			if _, err := conn.WriteTo(packet[:n], peer); err != nil {
				return err
			}
		}
	})
	return netip.MustParseAddrPort(conn.LocalAddr().String())
}

func wantUDPEcho(t *testing.T, from *host, to netip.AddrPort) {
	t.Helper()
	remote := fullAddress(to)
	conn, err := gonet.DialUDP(from.stack, nil, &remote, ipv4.ProtocolNumber)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(deadline)); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second must find the first one's conversation
		if _, err := conn.Write([]byte("ping")); err != nil {
			t.Fatal(err)
		}
		answer := make([]byte, 100)
		if n, err := conn.Read(answer); err != nil || string(answer[:n]) != "ping" {
			t.Errorf("answer %q, error %v; want %q", answer[:n], err, "ping")
		}
	}
}

// A virtual IP moves: the new owner says so by gratuitous ARP, and the
// gateway must talk to it at once.
func TestGatewayFollowsGratuitousARP(t *testing.T) {
	sw := NewSwitch()
	g := startGateway(t, sw, false)
	virtual := netip.MustParseAddr("10.77.0.100")
	var guests []*host
	for i, lease := range leases {
		guest := startGuest(t, sw, lease)
		guests = append(guests, guest)
		if i == 0 {
			own(t, guest, virtual)
		}
	}
	reach := func(guest *host) {
		t.Helper()
		service, err := gonet.ListenTCP(guest.stack, tcpip.FullAddress{NIC: nic, Addr: address(virtual), Port: 80}, ipv4.ProtocolNumber)
		if err != nil {
			t.Fatal(err)
		}
		echo(t, service)
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second) // the stack alone takes 8 s and more
		defer cancel()
		conn, err := g.DialTCP(ctx, netip.AddrPortFrom(virtual, 80))
		if err != nil {
			t.Fatal(err)
		}
		wantEcho(t, conn)
	}
	reach(guests[0])
	if err := guests[0].stack.RemoveAddress(nic, address(virtual)); err != nil {
		t.Fatal(err)
	}
	own(t, guests[1], virtual)
	guests[1].port.Send(gratuitousARP(hardwareAddr(leases[1].MAC), virtual))
	reach(guests[1])
}

func own(t *testing.T, guest *host, addr netip.Addr) {
	t.Helper()
	err := guest.stack.AddProtocolAddress(nic, tcpip.ProtocolAddress{
		Protocol:          ipv4.ProtocolNumber,
		AddressWithPrefix: tcpip.AddressWithPrefix{Address: address(addr), PrefixLen: 32},
	}, stack.AddressProperties{})
	if err != nil {
		t.Fatal(err)
	}
}

func gratuitousARP(mac hardwareAddr, ip netip.Addr) []byte {
	f := append(broadcast[:], mac[:]...)
	f = append(f, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1)
	f = append(append(f, mac[:]...), ip.AsSlice()...)
	return append(append(f, make([]byte, 6)...), ip.AsSlice()...)
}

func TestGatewayRoutesNothingBetweenGuests(t *testing.T) {
	g, err := NewGateway(NewSwitch(), GatewayOptions{Addr: gatewayAddr})
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	packet := func(dst hardwareAddr, to string) []byte {
		f := append(append(dst[:], macA[:]...), 8, 0)
		f = append(f, make([]byte, 20)...)
		target := netip.MustParseAddr(to).As4()
		copy(f[ipv4TargetAt:], target[:])
		return f
	}
	gateway := hardwareAddr(gatewayMAC)
	tests := map[string]struct {
		frame []byte
		want  bool
	}{
		"to the gateway":          {packet(gateway, "10.77.0.1"), true},
		"to the outside":          {packet(gateway, "192.0.2.1"), true},
		"broadcast":               {packet(broadcast, "255.255.255.255"), true},
		"to another guest by way": {packet(gateway, "10.77.0.12"), false},
		"flooded to others":       {packet(macB, "10.77.0.12"), false},
		"ARP for another":         {gratuitousARP(macA, netip.MustParseAddr("10.77.0.12")), false},
		"truncated":               {gratuitousARP(macA, gatewayAddr.Addr())[:20], true},
	}
	for name, test := range tests {
		if got := g.admit(test.frame); got != test.want {
			t.Errorf("%s: admitted %v, want %v", name, got, test.want)
		}
	}
}
