package flanneld

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	"golang.zx2c4.com/wireguard/wgctrl"
)

const echoPort = "7777"

func TestVXLAN(t *testing.T)     { testBackend(t, vxlan, 1450) }
func TestHostGW(t *testing.T)    { testBackend(t, hostGW, 1500) }
func TestWireGuard(t *testing.T) { testBackend(t, wireGuard, 1420) }

// testBackend joins nodes to one network, with the daemon as it runs on a node:
// the packets are real, the API server and the CNI plugin are not.
func testBackend(t *testing.T, backend string, mtu int) {
	if !inWorld(t) {
		return
	}
	if err := netlink.LinkAdd(&netlink.GenericLink{LinkAttrs: netlink.LinkAttrs{Name: "wg"}, LinkType: "wireguard"}); backend == wireGuard && err != nil {
		t.Skip("no WireGuard in this kernel: ", err)
	}
	w := newWorld(t, backend)
	a, b := w.add(1), w.add(2)
	for _, node := range []*machine{a, b} {
		node.start()
		w.serve(node.inside, ":"+echoPort)
	}

	a.reaches(b)
	b.reaches(a)
	// To the outside the pod has its node's address.
	w.serveHere()
	if from, err := a.ask(netip.AddrPortFrom(nearby.Addr(), 7777)); err != nil || from != a.address.String() {
		t.Errorf("outside of the cluster the pod is seen as %q (%v), want its node's address %s", from, err, a.address)
	}
	a.hasMTU(mtu)

	// A restart does not cut connections off, whether it was told to stop or not.
	conn := a.dial(b)
	for _, signal := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL} {
		a.stop(signal)
		conn.echo(64)
		a.start()
		conn.echo(1 << 20) // full packets, too
	}

	// A node comes, and goes while a looks; another goes while a does not.
	c, d := w.add(3), w.add(4)
	for _, node := range []*machine{c, d} {
		node.start()
		w.serve(node.inside, ":"+echoPort)
		a.reaches(node)
		node.reaches(a)
		node.stop(syscall.SIGKILL)
	}
	w.api.remove(c.name)
	a.forgets(c)
	a.stop(syscall.SIGKILL)
	w.api.remove(d.name)
	w.must(in(a.host, func() error { return setUp(nil, "eth0", netip.PrefixFrom(a.address, nearby.Bits()), 1400) }))
	a.start()
	a.forgets(d)
	a.reaches(b)
	a.hasMTU(mtu - 100)

	// A node comes back with another address.
	b.stop(syscall.SIGTERM)
	b.move(netip.MustParsePrefix("10.77.0.222/24"), nearby.Addr())
	b.start()
	a.reaches(b)
	b.reaches(a)
	conn.echo(64)

	// A node behind a router.
	far := w.add(105)
	far.start()
	w.serve(far.inside, ":"+echoPort)
	if backend != hostGW {
		a.reaches(far)
		far.reaches(a)
		return
	}
	waitFor(t, "the far node is told as a problem", func() error {
		text, err := os.ReadFile(a.file("problems"))
		if err == nil && !strings.Contains(string(text), "pods of node-105 cannot be reached: its address 10.78.0.15 is not on the network of this node's link eth0") {
			err = errors.New(string(text))
		}
		return err
	})
	a.reaches(b)
	w.api.remove(far.name)
	eventually(t, "the problem is gone", func() bool {
		text, err := os.ReadFile(a.file("problems"))
		return err == nil && len(text) == 0
	})
}

// A node whose object was made anew may have another subnet than its bridge.
func TestAnotherSubnet(t *testing.T) {
	if !inWorld(t) {
		return
	}
	w := newWorld(t, vxlan)
	a, b := w.add(1), w.add(2)
	a.start()
	b.start()
	w.api.remove(a.name)
	w.api.put(newNode(a.name, "10.244.9.0/24"))
	if err := a.daemon.Wait(); err == nil || !strings.Contains(a.log.String(), "this node's subnet changed from 10.244.1.0/24 to 10.244.9.0/24") {
		t.Errorf("the daemon ended with %v", err)
	}
	a.start()
	b.forgets(&machine{w: w, name: "the old subnet", subnet: a.subnet, address: netip.MustParseAddr("192.0.2.1")})
	w.must(in(a.host, func() error {
		link, err := netlink.LinkByName(bridge)
		if err != nil {
			return err
		}
		addresses, err := netlink.AddrList(link, netlink.FAMILY_V4)
		if err == nil && len(addresses) > 0 {
			err = fmt.Errorf("the bridge still has %v, which the CNI plugin refuses", addresses)
		}
		return err
	}))
	text, err := os.ReadFile(a.file("cni.conflist"))
	if err != nil || !strings.Contains(string(text), "10.244.9.0/24") {
		t.Errorf("the CNI configuration (%v):\n%s", err, text)
	}
}

// serveHere serves the echo on the world's own addresses.
func (w *world) serveHere() {
	w.t.Helper()
	listener, err := net.Listen("tcp4", ":"+echoPort)
	w.must(err)
	w.t.Cleanup(func() { listener.Close() })
	go echo(listener)
}

// reaches waits until the node's pod gets to the other's, under its own address.
func (m *machine) reaches(other *machine) {
	m.w.t.Helper()
	waitFor(m.w.t, fmt.Sprintf("the pod of %s reaches that of %s", m.name, other.name), func() error {
		from, err := m.ask(netip.AddrPortFrom(other.pod(), 7777))
		if err == nil && from != m.pod().String() {
			m.w.t.Fatalf("the pod of %s is seen by that of %s as %s, want %s", m.name, other.name, from, m.pod())
		}
		return err
	})
}

// ask returns what address the node's pod is seen under.
func (m *machine) ask(server netip.AddrPort) (from string, err error) {
	err = in(m.inside, func() error {
		conn, err := net.DialTimeout("tcp", server.String(), time.Second)
		if err != nil {
			return err
		}
		defer conn.Close()
		from, err = bufio.NewReader(conn).ReadString('\n')
		return err
	})
	return strings.TrimSpace(from), err
}

// hasMTU holds the node's pods to what fits through the network.
func (m *machine) hasMTU(mtu int) {
	m.w.t.Helper()
	text, err := os.ReadFile(m.file("cni.conflist"))
	m.w.must(err)
	if want := fmt.Sprintf(`"mtu": %d,`, mtu); !strings.Contains(string(text), want) {
		m.w.t.Errorf("the CNI configuration has no %s:\n%s", want, text)
	}
	m.w.must(in(m.host, func() error {
		if link, err := netlink.LinkByName(vxlanLink); err == nil && link.Attrs().MTU != mtu {
			return fmt.Errorf("link %s has an MTU of %d, want %d", vxlanLink, link.Attrs().MTU, mtu)
		}
		return nil
	}))
}

// connection is one between two pods.
type connection struct {
	t    *testing.T
	conn net.Conn
}

func (m *machine) dial(other *machine) *connection {
	m.w.t.Helper()
	c := &connection{t: m.w.t}
	m.w.must(in(m.inside, func() (err error) {
		c.conn, err = net.DialTimeout("tcp", net.JoinHostPort(other.pod().String(), echoPort), deadline)
		return err
	}))
	m.w.t.Cleanup(func() { c.conn.Close() })
	if _, err := io.ReadFull(c.conn, make([]byte, len(m.pod().String())+1)); err != nil {
		m.w.t.Fatal(err)
	}
	return c
}

// echo sends bytes through the connection and wants them back.
func (c *connection) echo(size int) {
	c.t.Helper()
	sent, got := bytes.Repeat([]byte("keelson "), size/8), make([]byte, size)
	if err := c.conn.SetDeadline(time.Now().Add(deadline)); err != nil {
		c.t.Fatal(err)
	}
	go func() { _, _ = c.conn.Write(sent) }()
	if _, err := io.ReadFull(c.conn, got); err != nil {
		c.t.Fatalf("the connection between the pods broke: %v", err)
	}
	if !bytes.Equal(sent, got) {
		c.t.Fatal("other bytes came back")
	}
}

// forgets waits until nothing on the node leads to the other any more.
func (m *machine) forgets(other *machine) {
	m.w.t.Helper()
	waitFor(m.w.t, fmt.Sprintf("%s forgets %s", m.name, other.name), func() error {
		return in(m.host, func() error {
			routes, err := netlink.RouteList(nil, netlink.FAMILY_V4)
			if err != nil {
				return err
			}
			for _, route := range routes {
				if route.Dst != nil && route.Dst.String() == other.subnet.String() {
					return fmt.Errorf("route %s is there", route)
				}
			}
			if err := hasNoPeer(other.subnet); m.w.backend == wireGuard && err != nil {
				return err
			}
			for _, family := range []int{unix.AF_INET, unix.AF_BRIDGE} {
				entries, err := netlink.NeighList(0, family)
				if err != nil {
					return err
				}
				for _, entry := range entries {
					if entry.State&netlink.NUD_PERMANENT != 0 && (entry.IP.Equal(other.address.AsSlice()) || entry.IP.Equal(other.subnet.Addr().AsSlice())) {
						return fmt.Errorf("neighbour %v is there", entry)
					}
				}
			}
			return nil
		})
	})
}

// hasNoPeer tells whether WireGuard, in the namespace of the calling thread, has
// no peer for the subnet.
func hasNoPeer(subnet netip.Prefix) error {
	client, err := wgctrl.New()
	if err != nil {
		return err
	}
	defer client.Close()
	device, err := client.Device("flannel-wg")
	if err != nil {
		return err
	}
	for _, peer := range device.Peers {
		for _, allowed := range peer.AllowedIPs {
			if allowed.String() == subnet.String() {
				return fmt.Errorf("peer %s is there", peer.PublicKey)
			}
		}
	}
	return nil
}
