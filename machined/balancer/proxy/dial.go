package main

import (
	"context"
	"errors"
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// dialTimeout is how long an upstream may take to take a connection.
	dialTimeout = 2 * time.Second
	// connectTimeout bounds the search for an upstream that takes one. Clients of
	// Kubernetes wait for ten seconds.
	connectTimeout = 10 * time.Second
	// vanished is when a connection ends on whose other end nobody confirms what
	// was sent, and keepAliveIdle when an idle one begins to be asked for that.
	vanished         = 20 * time.Second
	keepAliveIdle    = 10 * time.Second
	keepAliveBetween = 5 * time.Second
)

// dialer makes connections to upstreams.
var dialer = &net.Dialer{
	Timeout:         dialTimeout,
	KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: keepAliveIdle, Interval: keepAliveBetween, Count: 2},
	Control: func(_, _ string, socket syscall.RawConn) error {
		var failed error
		err := socket.Control(func(fd uintptr) {
			failed = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(vanished.Milliseconds()))
		})
		return errors.Join(err, failed)
	},
}

// stateOf is what a request's error says about the upstream.
func stateOf(err error) state {
	var network *net.OpError
	if errors.As(err, &network) && network.Op == "dial" {
		return unreachable
	}
	return silent
}

// connect joins the client with the first upstream that takes a connection; the
// link is nil when none does.
func (p *pool) connect(ctx context.Context, client *net.TCPConn) (*upstream, *link) {
	searching, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	var last error
	for _, u := range p.candidates() {
		conn, err := dialer.DialContext(searching, "tcp", u.address)
		if err == nil {
			l := &link{client: client, upstream: conn.(*net.TCPConn)}
			if p.attach(u, l) {
				return u, l
			}
			conn.Close()
			continue
		}
		if searching.Err() != nil {
			break // the search took too long, which is not this upstream's fault
		}
		p.refused(u, err)
		last = err
	}
	if ctx.Err() == nil {
		p.stranded(last)
	}
	return nil, nil
}
