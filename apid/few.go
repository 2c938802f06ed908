package main

import (
	"net"
	"net/netip"
	"sync"

	"github.com/keelson-os/keelson/pkg/throttle"
)

// fewEach is a listener that holds a few connections of each address at a time,
// and closes those beyond: one stranger shall not take the places of all.
type fewEach struct {
	net.Listener
	most int

	mu   sync.Mutex
	open map[netip.Addr]int
}

func newFewEach(listener net.Listener, most int) *fewEach {
	return &fewEach{Listener: listener, most: most, open: map[netip.Addr]int{}}
}

// Accept implements net.Listener.
func (l *fewEach) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		from := throttle.Host(addrOf(conn.RemoteAddr()))
		if l.enter(from) {
			return &countedConn{conn, sync.OnceFunc(func() { l.leave(from) })}, nil
		}
		conn.Close()
	}
}

func (l *fewEach) enter(from netip.Addr) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open[from] >= l.most {
		return false
	}
	l.open[from]++
	return true
}

func (l *fewEach) leave(from netip.Addr) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open[from]--; l.open[from] == 0 {
		delete(l.open, from)
	}
}

// countedConn gives its place back once.
type countedConn struct {
	net.Conn
	leave func()
}

// Close implements net.Conn.
func (c *countedConn) Close() error {
	c.leave()
	return c.Conn.Close()
}
