package flanneld

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
)

// world is what nodes are connected to: the test's own namespace, with the API
// server and, behind its addresses, everything outside of the cluster.
type world struct {
	t       *testing.T
	api     *fakeAPI
	backend string
}

// Addresses of the world, each on a network that nodes may be on. It is the
// router between them.
var (
	nearby  = netip.MustParsePrefix("10.77.0.1/24")
	faraway = netip.MustParsePrefix("10.78.0.1/24")
)

const apiPort = "8080"

func newWorld(t *testing.T, backend string) *world {
	t.Helper()
	w := &world{t, newFakeAPI(), backend}
	for i, prefix := range []netip.Prefix{nearby, faraway} {
		w.must(netlink.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: fmt.Sprint("net", i)}}))
		w.must(setUp(nil, fmt.Sprint("net", i), prefix, 0))
	}
	w.must(os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0))
	listener, err := net.Listen("tcp", net.JoinHostPort(nearby.Addr().String(), apiPort))
	w.must(err)
	server := &http.Server{Handler: w.api}
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(func() { server.Close() })
	return w
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// in runs do in a namespace. The thread that was there ends with it.
func in(ns netns.NsHandle, do func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		err := netns.Set(ns)
		if err == nil {
			err = do()
		}
		done <- err
	}()
	return <-done
}

func newNamespace(t *testing.T) netns.NsHandle {
	t.Helper()
	made := make(chan netns.NsHandle, 1)
	go func() {
		runtime.LockOSThread()
		ns, err := netns.New()
		if err != nil {
			t.Error(err)
		}
		made <- ns
	}()
	ns := <-made
	if !ns.IsOpen() {
		t.FailNow()
	}
	t.Cleanup(func() { ns.Close() })
	return ns
}

// setUp gives a link of a namespace its address and brings it up; nil is the
// calling thread's. Zero leaves the MTU.
func setUp(handle *netlink.Handle, name string, address netip.Prefix, mtu int) error {
	if handle == nil {
		handle = &netlink.Handle{}
	}
	link, err := handle.LinkByName(name)
	if err != nil {
		return err
	}
	if mtu > 0 {
		if err := handle.LinkSetMTU(link, mtu); err != nil {
			return err
		}
	}
	parsed, err := netlink.ParseAddr(address.String())
	if err != nil {
		return err
	}
	if err := handle.AddrReplace(link, parsed); err != nil {
		return err
	}
	return handle.LinkSetUp(link)
}

// machine is a node: a namespace with a link to the world, and another one
// for its only pod.
type machine struct {
	w            *world
	name         string
	address      netip.Addr
	subnet       netip.Prefix
	host, inside netns.NsHandle
	dir          string
	daemon       *exec.Cmd
	log          *syncBuffer
}

// add connects node number i; nodes from 100 on are far away. Its daemon does
// not run yet.
func (w *world) add(i int) *machine {
	w.t.Helper()
	network, at := "net0", nearby
	if i >= 100 {
		network, at = "net1", faraway
	}
	m := &machine{
		w: w, name: fmt.Sprint("node-", i), subnet: netip.MustParsePrefix(fmt.Sprintf("10.244.%d.0/24", i)),
		host: newNamespace(w.t), inside: newNamespace(w.t), dir: w.t.TempDir(), log: &syncBuffer{},
	}
	w.cable(fmt.Sprint("n", i), m.host, network)
	m.move(netip.PrefixFrom(addressIn(at, i), at.Bits()), at.Addr())
	// As machined sets them; before any other link, which takes the default.
	w.must(in(m.host, func() error {
		for name, value := range map[string]string{"ip_forward": "1", "conf/all/rp_filter": "2", "conf/default/rp_filter": "2"} {
			if err := os.WriteFile("/proc/sys/net/ipv4/"+name, []byte(value), 0); err != nil {
				return err
			}
		}
		return nil
	}))
	m.addPod()
	w.api.put(newNode(m.name, m.subnet.String()))
	return m
}

func addressIn(network netip.Prefix, i int) netip.Addr {
	bytes := network.Masked().Addr().As4()
	bytes[3] = byte(10 + i%100)
	return netip.AddrFrom4(bytes)
}

// cable makes a link between the namespace, where it is eth0, and a bridge here.
func (w *world) cable(name string, far netns.NsHandle, network string) {
	w.t.Helper()
	w.must(netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: name}, PeerName: "eth0", PeerNamespace: netlink.NsFd(far)}))
	near, err := netlink.LinkByName(name)
	w.must(err)
	master, err := netlink.LinkByName(network)
	w.must(err)
	w.must(netlink.LinkSetMaster(near, master))
	w.must(netlink.LinkSetUp(near))
}

// move gives the node another address.
func (m *machine) move(to netip.Prefix, router netip.Addr) {
	m.w.t.Helper()
	m.w.must(in(m.host, func() error {
		link, err := netlink.LinkByName("eth0")
		if err != nil {
			return err
		}
		old, err := netlink.AddrList(link, netlink.FAMILY_V4)
		if err != nil {
			return err
		}
		for _, address := range old {
			if err := netlink.AddrDel(link, &address); err != nil {
				return err
			}
		}
		if err := setUp(nil, "eth0", to, 0); err != nil {
			return err
		}
		return netlink.RouteReplace(&netlink.Route{Gw: router.AsSlice()})
	}))
	m.address = to.Addr()
}

// addPod does what the CNI plugin would do with our configuration.
func (m *machine) addPod() {
	m.w.t.Helper()
	gateway := m.subnet.Addr().Next()
	m.w.must(in(m.host, func() error {
		if err := netlink.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: bridge}}); err != nil {
			return err
		}
		if err := setUp(nil, bridge, netip.PrefixFrom(gateway, m.subnet.Bits()), 0); err != nil {
			return err
		}
		veth := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "veth0"}, PeerName: "eth0", PeerNamespace: netlink.NsFd(m.inside)}
		if err := netlink.LinkAdd(veth); err != nil {
			return err
		}
		master, err := netlink.LinkByName(bridge)
		if err != nil {
			return err
		}
		if err := netlink.LinkSetMaster(veth, master); err != nil {
			return err
		}
		return netlink.LinkSetUp(veth)
	}))
	m.w.must(in(m.inside, func() error {
		if err := setUp(nil, "eth0", netip.PrefixFrom(m.pod(), m.subnet.Bits()), 0); err != nil {
			return err
		}
		return netlink.RouteAdd(&netlink.Route{Gw: gateway.AsSlice()})
	}))
}

// pod is the address of the node's pod.
func (m *machine) pod() netip.Addr { return m.subnet.Addr().Next().Next() }

func (m *machine) file(name string) string { return filepath.Join(m.dir, name) }

// start runs the daemon and waits until the node has a pod network.
func (m *machine) start() {
	m.w.t.Helper()
	files := map[string]string{
		"network.json": fmt.Sprintf(`{"EnableNFTables": true, "Network": "10.244.0.0/16", "Backend": {"Type": %q}}`, m.w.backend),
		"kubeconfig": fmt.Sprintf(`{"apiVersion": "v1", "kind": "Config", "current-context": "c", "contexts": [{"name": "c", "context": {"cluster": "c"}}],
			"clusters": [{"name": "c", "cluster": {"server": "http://%s:%s"}}]}`, nearby.Addr(), apiPort),
	}
	for name, content := range files {
		m.w.must(os.WriteFile(m.file(name), []byte(content), 0o600))
	}
	_ = os.Remove(m.file("cni.conflist"))
	m.daemon = exec.Command("/proc/self/exe", "--kubeconfig="+m.file("kubeconfig"), "--net-config="+m.file("network.json"),
		"--cni-config="+m.file("cni.conflist"), "--problems="+m.file("problems"), "--wireguard-key="+m.file("wireguard.key"),
		"--node-name="+m.name, "--node-ip="+m.address.String())
	m.daemon.Env = append(findNFT(), asVariable+"="+asConfined)
	m.daemon.Stdout, m.daemon.Stderr = m.log, m.log
	_, err := m.daemon.StdinPipe()
	m.w.must(err)
	m.w.must(in(m.host, m.daemon.Start))
	m.w.t.Cleanup(func() {
		m.stop(syscall.SIGKILL)
		if m.w.t.Failed() {
			m.w.t.Logf("log of %s:\n%s", m.name, m.log)
		}
	})
	waitFor(m.w.t, m.name+" has a pod network", func() error {
		_, err := os.Stat(m.file("cni.conflist"))
		return err
	})
}

// stop ends the daemon, if it runs.
func (m *machine) stop(signal syscall.Signal) {
	if m.daemon.ProcessState == nil {
		_ = m.daemon.Process.Signal(signal)
		_ = m.daemon.Wait()
	}
}

// serve answers every TCP connection to an address with the address that it came
// from, then echoes.
func (w *world) serve(ns netns.NsHandle, address string) {
	w.t.Helper()
	var listener net.Listener
	w.must(in(ns, func() (err error) {
		listener, err = net.Listen("tcp4", address)
		return err
	}))
	w.t.Cleanup(func() { listener.Close() })
	go echo(listener)
}

func echo(listener net.Listener) {
	for {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		go func() {
			defer conn.Close()
			from, _, _ := strings.Cut(conn.RemoteAddr().String(), ":")
			fmt.Fprintln(conn, from)
			_, _ = io.Copy(conn, conn)
		}()
	}
}

// syncBuffer is a log that may be read while it is written.
type syncBuffer struct {
	mu     sync.Mutex
	buffer bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.String()
}
