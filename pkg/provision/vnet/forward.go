package vnet

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"time"

	"golang.org/x/sync/errgroup"
)

const (
	// dialTimeout bounds how long a connection may take to come up.
	dialTimeout = 10 * time.Second
	// forwardConns bounds the connections of one forward; more are closed at once.
	forwardConns = 512
)

// Forward accepts connections on a listener of the host and carries each to
// an address on the virtual network, until ctx ends. It closes the listener.
func (g *Gateway) Forward(ctx context.Context, listener net.Listener, to netip.AddrPort) error {
	defer context.AfterFunc(ctx, func() { listener.Close() })()
	defer listener.Close()

	var conns errgroup.Group
	conns.SetLimit(forwardConns)
	defer conns.Wait()
	for {
		outer, err := listener.Accept()
		if err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return fmt.Errorf("accept for the forward to %s: %w", to, err)
		}
		accepted := conns.TryGo(func() error {
			g.carry(ctx, outer, to)
			return nil
		})
		if !accepted {
			outer.Close()
		}
	}
}

func (g *Gateway) carry(ctx context.Context, outer net.Conn, to netip.AddrPort) {
	defer outer.Close()
	dialCtx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	inner, err := g.DialTCP(dialCtx, to)
	if err != nil {
		g.Log.Debug("forward found no one", "to", to, "error", err)
		return
	}
	splice(ctx, outer, inner)
}

// splice copies both ways until both directions ended or ctx does, and closes
// both connections. The end of one direction is passed on as such, because
// protocols say "that was my request" that way.
func splice(ctx context.Context, a, b net.Conn) {
	hangUp := func() {
		a.Close()
		b.Close()
	}
	defer hangUp()
	defer context.AfterFunc(ctx, hangUp)()

	var group errgroup.Group
	for _, way := range [][2]net.Conn{{a, b}, {b, a}} {
		group.Go(func() error {
			err := copyHalf(way[0], way[1])
			if err != nil {
				hangUp()
			}
			return err
		})
	}
	_ = group.Wait() // either side hanging up is a connection's normal end
}

func copyHalf(to, from net.Conn) error {
	if _, err := io.Copy(to, from); err != nil {
		return err
	}
	half, ok := to.(interface{ CloseWrite() error })
	if !ok {
		return errors.ErrUnsupported
	}
	return half.CloseWrite()
}
