package network

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv4/server4"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"

	"github.com/keelson-os/keelson/machined/host/hosttest"
	"github.com/keelson-os/keelson/pkg/machineconfig"
)

// deadline of every wait: generous, as the machine may be busy.
const deadline = 30 * time.Second

// inNamespace runs the calling test in a process of its own, in a network
// namespace of its own, as root of a user namespace. It tells whether the caller
// is that process.
func inNamespace(t *testing.T) bool {
	t.Helper()
	const marker = "KEELSON_TEST_NAMESPACE"
	if os.Getenv(marker) == t.Name() {
		return true
	}
	t.Parallel()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), marker+"="+t.Name())
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET,
		UidMappings: []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}},
	}
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	if err := cmd.Start(); err != nil {
		t.Skip("no namespaces for tests here: ", err)
	}
	err := cmd.Wait()
	t.Log(output.String())
	if err != nil {
		t.Error(err)
	}
	if strings.Contains(output.String(), "--- SKIP") {
		t.Skip("skipped in its namespace")
	}
	return false
}

// testServer is a DHCP server behind a veth pair, in a second namespace.
type testServer struct {
	t      *testing.T
	cable  netlink.Link // the node's end
	remote netns.NsHandle

	mu       sync.Mutex
	lease    time.Duration
	refuse   bool // answer requests with NAK, no offers
	silent   bool
	requests chan *dhcpv4.DHCPv4
}

// newServer makes the link eth0 with a DHCP server at its other end.
func newServer(t *testing.T) *testServer {
	t.Helper()
	cable := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "eth0"}, PeerName: "far0"}
	if err := netlink.LinkAdd(cable); err != nil {
		t.Skip("no veth links here: ", err)
	}
	s := &testServer{t: t, cable: cable, lease: time.Hour, requests: make(chan *dhcpv4.DHCPv4, 100)}
	ready := make(chan net.PacketConn)
	go s.setUpRemote(ready)
	conn, ok := <-ready
	if !ok {
		t.FailNow()
	}
	server, err := server4.NewServer("far0", nil, s.answer, server4.WithConn(conn))
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() { _ = server.Serve() })
	t.Cleanup(func() {
		server.Close()
		serving.Wait()
		s.remote.Close()
	})
	return s
}

// setUpRemote opens the server's socket in a new namespace. Its thread ends
// with it, as Go does not reuse one that stays locked.
func (s *testServer) setUpRemote(ready chan<- net.PacketConn) {
	defer close(ready)
	runtime.LockOSThread()
	here, err := netns.Get()
	if err != nil {
		s.t.Error(err)
		return
	}
	defer here.Close()
	if s.remote, err = netns.New(); err != nil {
		s.t.Error(err)
		return
	}
	near, err := netlink.NewHandleAt(here)
	if err != nil {
		s.t.Error(err)
		return
	}
	defer near.Close()
	far, err := near.LinkByName("far0")
	if err == nil {
		err = near.LinkSetNsFd(far, int(s.remote))
	}
	if err == nil {
		err = setAddresses("far0", []netip.Prefix{prefix("10.0.0.1/24")})
	}
	if err == nil {
		err = raiseLink("far0", 0)
	}
	if err != nil {
		s.t.Error(err)
		return
	}
	conn, err := server4.NewIPv4UDPConn("far0", &net.UDPAddr{IP: net.IPv4zero, Port: 67})
	if err != nil {
		s.t.Error(err)
		return
	}
	ready <- conn
}

func (s *testServer) set(change func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change()
}

func (s *testServer) answer(conn net.PacketConn, peer net.Addr, request *dhcpv4.DHCPv4) {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case s.requests <- request:
	default:
	}
	if s.silent {
		return
	}
	reply, err := dhcpv4.NewReplyFromRequest(request,
		dhcpv4.WithServerIP(net.IPv4(10, 0, 0, 1)),
		dhcpv4.WithOption(dhcpv4.OptServerIdentifier(net.IPv4(10, 0, 0, 1))),
		dhcpv4.WithYourIP(net.IPv4(10, 0, 0, 5)),
		dhcpv4.WithNetmask(net.CIDRMask(24, 32)),
		dhcpv4.WithRouter(net.IPv4(10, 0, 0, 1)),
		dhcpv4.WithDNS(net.IPv4(10, 0, 0, 1)),
		dhcpv4.WithOption(dhcpv4.OptHostName("node-7.test")),
		dhcpv4.WithOption(dhcpv4.OptDomainName("test")),
		dhcpv4.WithLeaseTime(uint32(s.lease/time.Second)),
	)
	if err != nil {
		s.t.Error(err)
		return
	}
	switch {
	case request.MessageType() == dhcpv4.MessageTypeDiscover && !s.refuse:
		reply.UpdateOption(dhcpv4.OptMessageType(dhcpv4.MessageTypeOffer))
	case request.MessageType() == dhcpv4.MessageTypeRequest && s.refuse:
		reply.UpdateOption(dhcpv4.OptMessageType(dhcpv4.MessageTypeNak))
	case request.MessageType() == dhcpv4.MessageTypeRequest:
		reply.UpdateOption(dhcpv4.OptMessageType(dhcpv4.MessageTypeAck))
	default:
		return
	}
	if addr, ok := peer.(*net.UDPAddr); ok && addr.IP.IsUnspecified() {
		peer = &net.UDPAddr{IP: net.IPv4bcast, Port: 68}
	}
	if _, err := conn.WriteTo(reply.ToBytes(), peer); err != nil {
		s.t.Log("answer: ", err)
	}
}

// awaitRequest waits for a message that fits.
func (s *testServer) awaitRequest(what string, fits func(*dhcpv4.DHCPv4) bool) {
	s.t.Helper()
	timeout := time.After(deadline)
	for {
		select {
		case request := <-s.requests:
			if fits(request) {
				return
			}
		case <-timeout:
			s.t.Fatal("waited in vain for ", what)
		}
	}
}

// up brings the network up and closes it with the test.
func up(t *testing.T, ctx context.Context, machine *machineconfig.Machine) (*Network, *hosttest.OS, string, error) {
	t.Helper()
	standInForDummy(t)
	fake, dir := &hosttest.OS{}, t.TempDir()
	n, err := Up(ctx, Options{
		Machine:  machine,
		OS:       fake,
		Dir:      dir,
		Deadline: deadline,
		Log:      slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug})),
	})
	if n != nil {
		t.Cleanup(func() {
			if err := n.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	return n, fake, dir, err
}

// standInForDummy makes DNSLink a bridge where the kernel has no dummy links.
func standInForDummy(t *testing.T) {
	t.Helper()
	if err := addDNSLink(); !errors.Is(err, syscall.EOPNOTSUPP) {
		return
	}
	attributes := netlink.NewLinkAttrs()
	attributes.Name = DNSLink
	if err := netlink.LinkAdd(&netlink.Bridge{LinkAttrs: attributes}); err != nil {
		t.Skip("neither dummy nor bridge links here: ", err)
	}
}

// awaitState waits for a state that fits.
func awaitState(t *testing.T, n *Network, what string, fits func(State) bool) {
	t.Helper()
	timeout := time.After(deadline)
	for {
		state, changed := n.State()
		if fits(state) {
			return
		}
		select {
		case <-changed:
		case <-timeout:
			t.Fatalf("waited in vain for %s; the state is %+v", what, state)
		}
	}
}

func addressesOf(t *testing.T, name string) []netip.Prefix {
	t.Helper()
	link, err := netlink.LinkByName(name)
	if err != nil {
		t.Fatal(err)
	}
	list, err := netlink.AddrList(link, netlink.FAMILY_V4)
	if err != nil {
		t.Fatal(err)
	}
	var prefixes []netip.Prefix
	for _, address := range list {
		p, _ := toPrefix(address.IPNet)
		prefixes = append(prefixes, p)
	}
	return prefixes
}

func defaultGateway(t *testing.T) string {
	t.Helper()
	routes, err := netlink.RouteGet(net.IPv4(203, 0, 113, 1))
	if err != nil {
		return err.Error()
	}
	return routes[0].Gw.String()
}

func TestDHCPSetsEverythingUp(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	newServer(t)
	n, fake, dir, err := up(t, t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	state, _ := n.State()
	if state.NodeIP != addr("10.0.0.5") || state.Hostname != "node-7" || len(state.Nameservers) != 1 {
		t.Errorf("state: %+v", state)
	}
	if got := defaultGateway(t); got != "10.0.0.1" {
		t.Errorf("default gateway: %s", got)
	}
	if got := addressesOf(t, DNSLink); len(got) != 1 || got[0].Addr() != DNSAddress {
		t.Errorf("addresses of %s: %v", DNSLink, got)
	}
	if calls := fake.Calls(); len(calls) != 1 || calls[0] != "SetHostname node-7" {
		t.Errorf("calls: %v", calls)
	}
	resolv, err := os.ReadFile(filepath.Join(dir, "resolv.conf"))
	if err != nil || !strings.Contains(string(resolv), "nameserver 10.0.0.1\nsearch test\n") {
		t.Errorf("resolv.conf: %s, %v", resolv, err)
	}
}

func TestLeaseIsRenewedAndTakenAway(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	server := newServer(t)
	server.set(func() { server.lease = 4 * time.Second }) // renewed after two
	n, _, _, err := up(t, t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	isRenewal := func(m *dhcpv4.DHCPv4) bool { return m.ClientIPAddr.Equal(net.IPv4(10, 0, 0, 5)) }
	server.awaitRequest("a renewal", isRenewal)
	server.awaitRequest("a second renewal", isRenewal)
	server.set(func() { server.refuse = true })
	awaitState(t, n, "the address to go", func(s State) bool { return !s.NodeIP.IsValid() })
	if got := addressesOf(t, "eth0"); len(got) != 0 {
		t.Errorf("addresses of eth0 after the refusal: %v", got)
	}
	if state, _ := n.State(); state.Hostname != "node-7" {
		t.Errorf("the name changed to %s", state.Hostname)
	}
	server.set(func() { server.refuse = false })
	awaitState(t, n, "the address to come back", func(s State) bool { return s.NodeIP == addr("10.0.0.5") })
}

func TestLeaseRunsOutOnASilentServer(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	server := newServer(t)
	server.set(func() { server.lease = 2 * time.Second })
	n, _, _, err := up(t, t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	server.set(func() { server.silent = true })
	awaitState(t, n, "the lease to run out", func(s State) bool { return !s.NodeIP.IsValid() })
	if got := defaultGateway(t); got == "10.0.0.1" {
		t.Error("the default route outlived the lease")
	}
}

func TestReplugAsksAnyServer(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	server := newServer(t)
	if _, _, _, err := up(t, t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	remote, err := netlink.NewHandleAt(server.remote)
	if err != nil {
		t.Fatal(err)
	}
	defer remote.Close()
	far, err := remote.LinkByName("far0")
	if err != nil {
		t.Fatal(err)
	}
	updates := make(chan netlink.LinkUpdate, 100)
	done := make(chan struct{})
	defer close(done)
	if err := netlink.LinkSubscribe(updates, done); err != nil {
		t.Fatal(err)
	}
	if err := remote.LinkSetDown(far); err != nil {
		t.Fatal(err)
	}
	// The kernel tells of short interruptions not at all.
	for timeout, out := time.After(deadline), false; !out; {
		select {
		case update := <-updates:
			out = update.Attrs().Name == "eth0" && !hasCarrier(update.Link)
		case <-timeout:
			t.Fatal("waited in vain for the carrier to go")
		}
	}
	if err := remote.LinkSetUp(far); err != nil {
		t.Fatal(err)
	}
	server.awaitRequest("a request without a discovery", func(m *dhcpv4.DHCPv4) bool {
		return m.MessageType() == dhcpv4.MessageTypeRequest && m.ClientIPAddr.Equal(net.IPv4(10, 0, 0, 5))
	})
}

func TestNoServerThenOne(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	server := newServer(t)
	server.set(func() { server.silent = true })
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	n, _, _, err := up(t, ctx, nil)
	if err == nil || !strings.Contains(err.Error(), "no address for eth0 after") {
		t.Fatalf("error: %v", err)
	}
	server.awaitRequest("a discovery", func(m *dhcpv4.DHCPv4) bool { return m.MessageType() == dhcpv4.MessageTypeDiscover })
	server.set(func() { server.silent = false })
	waiting, stop := context.WithTimeout(t.Context(), deadline)
	defer stop()
	if state, err := n.Wait(waiting); err != nil || state.NodeIP != addr("10.0.0.5") {
		t.Errorf("%+v, %v", state, err)
	}
}

func TestFixedAddresses(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	newServer(t)
	n, _, _, err := up(t, t.Context(), nil) // maintenance mode: DHCP
	if err != nil {
		t.Fatal(err)
	}
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	config := machine(machineconfig.Interface{
		Name: "eth0", Addresses: []netip.Prefix{prefix("10.0.0.9/24"), prefix("10.1.0.9/16")}, Gateway: addr("10.0.0.1"), MTU: 1400,
	})
	config.Hostname = "fixed"
	n, fake, _, err := up(t, t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	if state, _ := n.State(); state.NodeIP != addr("10.0.0.9") || state.Hostname != "fixed" || len(state.Addresses) != 2 {
		t.Errorf("state: %+v", state)
	}
	if got := addressesOf(t, "eth0"); len(got) != 2 {
		t.Errorf("addresses of eth0: %v; the one from DHCP has to go", got)
	}
	if got := defaultGateway(t); got != "10.0.0.1" {
		t.Errorf("default gateway: %s", got)
	}
	link, err := netlink.LinkByName("eth0")
	if err != nil || link.Attrs().MTU != 1400 {
		t.Errorf("MTU %d, %v", link.Attrs().MTU, err)
	}
	if calls := fake.Calls(); len(calls) != 1 || calls[0] != "SetHostname fixed" {
		t.Errorf("calls: %v", calls)
	}
}

func TestNoCard(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, _, err := up(t, ctx, nil); err == nil || !strings.Contains(err.Error(), "no network card") {
		t.Errorf("error: %v", err)
	}
}
