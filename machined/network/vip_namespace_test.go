package network

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/mdlayher/packet"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// listen returns the frames that arrive at the far end of the cable.
func (s *testServer) listen() <-chan []byte {
	s.t.Helper()
	opened := make(chan *packet.Conn)
	go func() {
		defer close(opened)
		runtime.LockOSThread() // and ends with the goroutine
		if err := netns.Set(s.remote); err != nil {
			s.t.Error(err)
			return
		}
		far, err := net.InterfaceByName("far0")
		if err != nil {
			s.t.Error(err)
			return
		}
		conn, err := packet.Listen(far, packet.Raw, unix.ETH_P_ALL, nil)
		if err != nil {
			s.t.Error(err)
			return
		}
		opened <- conn
	}()
	conn, ok := <-opened
	if !ok {
		s.t.FailNow()
	}
	frames := make(chan []byte, 1000)
	var reading sync.WaitGroup
	reading.Go(func() {
		buffer := make([]byte, 1600)
		for {
			n, _, err := conn.ReadFrom(buffer)
			if err != nil {
				return
			}
			select {
			case frames <- bytes.Clone(buffer[:n]):
			default: // nobody looks at so many
			}
		}
	})
	s.t.Cleanup(func() {
		conn.Close()
		reading.Wait()
	})
	return frames
}

func awaitFrame(t *testing.T, frames <-chan []byte, want []byte) {
	t.Helper()
	timeout := time.After(deadline)
	for {
		select {
		case frame := <-frames:
			if bytes.HasPrefix(frame, want) {
				return
			}
		case <-timeout:
			t.Fatalf("waited in vain for the frame %x", want)
		}
	}
}

func awaitAddress(t *testing.T, address netip.Addr, wanted bool) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	timeout := time.After(deadline)
	for {
		list, err := listAddresses(address)
		if err != nil {
			t.Fatal(err)
		}
		have := slices.ContainsFunc(list, func(each linkAddress) bool {
			return !each.own && each.link == "eth0" && each.prefix == netip.PrefixFrom(address, address.BitLen())
		})
		if have == wanted {
			return
		}
		select {
		case <-tick.C:
		case <-timeout:
			t.Fatalf("%s is there: %v; the addresses: %v", address, have, list)
		}
	}
}

// sourceTo is the address from which the node would speak to another one.
func sourceTo(t *testing.T, address string) netip.Addr {
	t.Helper()
	conn, err := net.Dial("udp", net.JoinHostPort(address, "9"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	return conn.LocalAddr().(*net.UDPAddr).AddrPort().Addr()
}

func TestVirtualIPOnALink(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	server := newServer(t)
	server.set(func() { server.lease = 4 * time.Second }) // renewed after two
	frames := server.listen()
	n, _, _, err := up(t, t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	four, six := addr("10.0.0.50"), addr("fd00::50")
	own := &netlink.Addr{IPNet: toIPNet(prefix("fd00::5/64")), Flags: unix.IFA_F_NODAD}
	if err := netlink.AddrAdd(server.cable, own); err != nil {
		t.Skip("no IPv6 here: ", err)
	}
	for _, left := range []netip.Addr{four, six} {
		if err := (kernelLinks{}).add(placement{"eth0", left}); err != nil {
			t.Fatal(err)
		}
		awaitAddress(t, left, true)
	}

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	holds := make(chan time.Time)
	var keeping sync.WaitGroup
	keeping.Go(func() {
		err := KeepVirtualIP(ctx, VirtualIPOptions{
			Addresses: []netip.Addr{four, six},
			Campaign: func(context.Context) (<-chan time.Time, error) {
				if ctx.Err() != nil {
					return nil, errors.New("it is over")
				}
				return holds, nil
			},
			Healthy: func(context.Context) error { return nil },
			Log:     slog.New(slog.NewTextHandler(t.Output(), nil)),
			Problem: func(err error) {
				if err != nil {
					t.Error(err)
				}
			},
		})
		if err != nil {
			t.Error(err)
		}
	})
	awaitAddress(t, four, false)
	awaitAddress(t, six, false)

	holds <- time.Now().Add(time.Hour)
	awaitAddress(t, four, true)
	awaitAddress(t, six, true)
	link, err := net.InterfaceByName("eth0")
	if err != nil {
		t.Fatal(err)
	}
	for range announcements {
		for _, address := range []netip.Addr{four, six} {
			want, _ := announcement(link.HardwareAddr, address)
			awaitFrame(t, frames, want)
		}
	}

	// A renewed lease takes nothing away, and nobody takes the virtual IP for
	// the node's own.
	isRenewal := func(m *dhcpv4.DHCPv4) bool { return m.ClientIPAddr.Equal(net.IPv4(10, 0, 0, 5)) }
	server.awaitRequest("a renewal", isRenewal)
	server.awaitRequest("a second renewal", isRenewal)
	server.awaitRequest("a third renewal", isRenewal)
	awaitAddress(t, four, true)
	awaitAddress(t, six, true)
	if state, _ := n.State(); state.NodeIP != addr("10.0.0.5") || slices.Contains(state.Addresses, prefix("10.0.0.50/32")) {
		t.Errorf("state: %+v", state)
	}
	if got := sourceTo(t, "10.0.0.1"); got != addr("10.0.0.5") {
		t.Errorf("the node speaks IPv4 from %s", got)
	}
	if got := sourceTo(t, "fd00::1"); got != addr("fd00::5") {
		t.Errorf("the node speaks IPv6 from %s", got)
	}

	holds <- time.Time{}
	awaitAddress(t, four, false)
	awaitAddress(t, six, false)
	holds <- time.Now().Add(time.Hour)
	awaitAddress(t, four, true)
	close(holds)
	awaitAddress(t, four, false)
	cancel()
	keeping.Wait()
}
