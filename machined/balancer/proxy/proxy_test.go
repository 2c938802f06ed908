package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"
)

func TestAClientNeverSeesAServerThatIsGone(t *testing.T) {
	c := newCluster(t)
	a, b := c.serve("a", "127.0.0.1:0"), c.serve("b", "127.0.0.1:0")
	c.set(a, b)
	c.start()
	c.logged("upstream is ready\" upstream=" + a.address)
	c.logged("upstream is ready\" upstream=" + b.address)
	seen := map[string]bool{}
	c.eventually("both are used", func() error {
		name, err := c.who()
		seen[name] = true
		if err != nil || !seen["a"] || !seen["b"] {
			return fmt.Errorf("%v, %w", seen, err)
		}
		return nil
	})
	for round := range 3 {
		a.unplug()
		for range 20 {
			if name, err := c.who(); err != nil || name != "b" {
				t.Fatalf("round %d: served by %q, %v\n%s", round, name, err, c.stderr)
			}
		}
		a = c.serve("a", a.address)
		c.eventually("a is used again", func() error {
			if name, err := c.who(); err != nil || name != "a" {
				return fmt.Errorf("served by %q, %w", name, err)
			}
			return nil
		})
	}
}

func TestTheLocalServerIsPreferredWhileItIsReady(t *testing.T) {
	c := newCluster(t)
	local, other := c.serve("local", "127.0.0.1:0"), c.serve("other", "127.0.0.1:0")
	c.set(other) // the local one needs not be among them
	c.start("--prefer=" + local.address)
	c.served("local")
	local.ready.Store(false)
	c.served("other")
	local.ready.Store(true)
	c.served("local")
	local.http.Close()
	c.served("other")
	local = c.serve("local", local.address)
	c.served("local")
	other.http.Close()
	local.ready.Store(false)
	c.served("local") // better than nothing
}

// A machine that has lost its power neither takes nor refuses connections.
func TestAServerThatSwallowsPacketsIsLeft(t *testing.T) {
	c := newCluster(t)
	hole := swallow(t)
	other := c.serve("other", "127.0.0.1:0")
	c.set(other)
	c.start("--prefer=" + hole)
	for range 3 {
		if name, err := c.who(); err != nil || name != "other" {
			t.Fatalf("served by %q, %v\n%s", name, err, c.stderr)
		}
	}
	c.logged("upstream is dead\" upstream=" + hole)
}

// swallow returns an address that answers no attempt to connect: its queue is
// full and nobody takes from it.
func swallow(t *testing.T) string {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	if err := unix.Listen(fd, 0); err != nil {
		t.Fatal(err)
	}
	own, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	address := fmt.Sprintf("127.0.0.1:%d", own.(*unix.SockaddrInet4).Port)
	for range 10 {
		conn, err := net.DialTimeout("tcp", address, 200*time.Millisecond)
		if err != nil {
			return address
		}
		t.Cleanup(func() { conn.Close() })
	}
	t.Skip("a full queue takes connections here")
	return ""
}

// Live connections must not wait for a server that is gone, nor suffer from one
// that says for a moment that it is not ready.
func TestConnectionsEndWithTheirServerAndNotBefore(t *testing.T) {
	c := newCluster(t)
	a, b := c.serve("a", "127.0.0.1:0"), c.serve("b", "127.0.0.1:0")
	c.set(b)
	c.start("--prefer=" + a.address)
	c.served("a")
	watch := c.stream()
	a.ready.Store(false)
	before := a.asked.Load()
	c.eventually("a was asked often", func() error {
		if asked := a.asked.Load() - before; asked < 2*deadAfter {
			return fmt.Errorf("%d times", asked)
		}
		return nil
	})
	if err := watch.works(); err != nil {
		t.Fatalf("closed on a blip: %v\n%s", err, c.stderr)
	}
	a.ready.Store(true)
	c.served("a")
	a.unplug()
	// The asker's own connection still works. Only a new one shows the truth.
	a.http.SetKeepAlivesEnabled(false)
	watch.ends(c)
	c.logged("connections closed")
	c.served("b")
}

func TestARemovedServerKeepsItsConnectionsUntilItDies(t *testing.T) {
	c := newCluster(t)
	a, b := c.serve("a", "127.0.0.1:0"), c.serve("b", "127.0.0.1:0")
	c.set(a)
	c.start()
	c.served("a")
	watch := c.stream()
	c.set(b)
	c.served("b")
	if err := watch.works(); err != nil {
		t.Fatalf("closed by the removal: %v\n%s", err, c.stderr)
	}
	a.unplug()
	a.http.SetKeepAlivesEnabled(false)
	watch.ends(c)
}

func TestServersThatAreNotReadyAreBetterThanNone(t *testing.T) {
	c := newCluster(t)
	address := freeAddress(t)
	c.set(&apiServer{address: address})
	c.start()
	if name, err := c.who(); err == nil {
		t.Fatalf("nobody is there, and %q answers", name)
	}
	c.logged("no upstream takes connections")
	a := c.serve("a", address)
	a.ready.Store(false)
	c.served("a")
	c.logged("clients are served again")
	a.ready.Store(true)
	c.logged("upstream is ready")
}

func TestAServerOfAnotherClusterIsLast(t *testing.T) {
	c := newCluster(t)
	foreign := (&cluster{t: t, ca: newAuthority(t)}).serve("foreign", "127.0.0.1:0")
	c.set(c.serve("own", "127.0.0.1:0"))
	c.start("--prefer=" + foreign.address)
	c.served("own")
	c.logged("upstream is silent")
}

func TestABrokenFileChangesNothing(t *testing.T) {
	c := newCluster(t)
	a, b := c.serve("a", "127.0.0.1:0"), c.serve("b", "127.0.0.1:0")
	c.set(a)
	c.start()
	c.served("a")
	path := filepath.Join(c.options.Dir, "upstreams.json")
	if err := os.Chmod(path, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(`["10.0.0.`), 0o600); err != nil {
		t.Fatal(err)
	}
	c.logged("the upstreams stay as they were")
	c.served("a")
	c.set(b)
	c.served("b")
}

func TestHalfClosedConnections(t *testing.T) {
	c := newCluster(t)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				if text, err := io.ReadAll(conn); err == nil {
					_, _ = conn.Write(text)
				}
			}()
		}
	}()
	c.set(&apiServer{address: listener.Addr().String()})
	c.start()
	const size = 5 << 20
	client, err := net.Dial("tcp", c.options.Listen)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if err := client.SetDeadline(time.Now().Add(deadline)); err != nil {
		t.Fatal(err)
	}
	sent := make([]byte, size)
	for i := range sent {
		sent[i] = byte(i * 7)
	}
	if _, err := client.Write(sent); err != nil {
		t.Fatal(err)
	}
	if err := client.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(client)
	if err != nil || !slices.Equal(got, sent) {
		t.Errorf("%d bytes came back of %d, %v", len(got), size, err)
	}
}

func TestManyConnectionsAndTooMany(t *testing.T) {
	c := newCluster(t)
	a, b := c.serve("a", "127.0.0.1:0"), c.serve("b", "127.0.0.1:0")
	c.set(a, b)
	const many = 200
	c.start(fmt.Sprintf("--max-connections=%d", many))
	streams := make([]*stream, many)
	var making sync.WaitGroup
	for i := range streams {
		making.Go(func() { streams[i] = c.stream() })
	}
	making.Wait()
	if t.Failed() {
		t.FailNow()
	}
	for i, s := range streams {
		if err := s.works(); err != nil {
			t.Fatalf("connection %d: %v", i, err)
		}
	}
	if _, err := c.who(); err == nil {
		t.Error("one more was taken")
	}
	c.logged("too many connections")
	for _, s := range streams {
		s.cancel()
	}
	c.eventually("connections are taken again", func() error { _, err := c.who(); return err })
	c.logged("connections are taken again")
}

func TestItComesBackAfterAKill(t *testing.T) {
	c := newCluster(t)
	a := c.serve("a", "127.0.0.1:0")
	c.set(a)
	c.start()
	c.served("a")
	watch := c.stream()
	c.kill()
	watch.ends(c)
	c.start()
	c.served("a")
	if err := c.process.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := c.process.Wait(); err != nil {
		t.Errorf("asked to stop, it ended with %v\n%s", err, c.stderr)
	}
}

// The health check must not cost an API server a connection.
func TestAClientThatSaysNothingReachesNobody(t *testing.T) {
	c := newCluster(t)
	a := c.serve("a", "127.0.0.1:0")
	c.set(a)
	c.start("--interval=1h")
	c.logged("upstream is ready")
	for range 5 {
		if err := c.service.Spec().Health.Probe(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if taken := a.connections.Load(); taken != 1 {
		t.Errorf("%d connections, want the one that asks for readiness", taken)
	}
}

func TestSpareUpstreamsAreAskedLess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		var mu sync.Mutex
		asked, states := map[string]int{}, map[string]state{"own:1": ready, "other:1": ready}
		asks := func(_ context.Context, address string) (state, error) {
			mu.Lock()
			defer mu.Unlock()
			asked[address]++
			return states[address], nil
		}
		p := newPool(ctx, "own:1", schedule{ready: time.Second}, asks, slog.New(slog.DiscardHandler))
		p.set([]string{"own:1", "other:1"})
		// during counts the questions to the other in a minute.
		during := func(least, most int) {
			t.Helper()
			mu.Lock()
			clear(asked)
			mu.Unlock()
			time.Sleep(time.Minute)
			mu.Lock()
			defer mu.Unlock()
			if n := asked["other:1"]; n < least || n > most || asked["own:1"] < 50 {
				t.Errorf("asked %v times; want the other %d to %d times", asked, least, most)
			}
		}
		during(8, 14)
		p.mu.Lock()
		other := p.upstreams["other:1"]
		p.mu.Unlock()
		l := &link{}
		if !p.attach(other, l) {
			t.Fatal("not attached")
		}
		during(50, 70)
		p.detach(other, l)
		during(8, 15)
		mu.Lock()
		states["own:1"] = answering
		mu.Unlock()
		during(50, 75)
		cancel()
	})
}

func TestAnUpstreamIsForgottenWithItsLastConnection(t *testing.T) {
	asks := func(context.Context, string) (state, error) { return ready, nil }
	p := newPool(t.Context(), "", schedule{ready: time.Hour}, asks, slog.New(slog.DiscardHandler))
	p.set([]string{"a:1", "b:1"})
	a, l := p.upstreams["a:1"], &link{}
	if !p.attach(a, l) {
		t.Fatal("not attached")
	}
	p.set([]string{"b:1"})
	if p.upstreams["a:1"] != a || len(p.candidates()) != 1 {
		t.Error("a is forgotten with a connection, or takes new ones")
	}
	p.detach(a, l)
	if p.upstreams["a:1"] != nil || p.attach(a, l) {
		t.Error("a is known without a connection")
	}
}
