package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync/atomic"
	"time"
)

// acceptPause follows an error of the kernel's, which has no file numbers left,
// say.
const acceptPause = 100 * time.Millisecond

// firstByte is how long a client may take to say something. Clients of TLS speak
// first and at once.
const firstByte = 30 * time.Second

// server takes clients' connections and finds upstreams for them.
type server struct {
	pool  *pool
	log   *slog.Logger
	limit int64 // of connections at a time

	open atomic.Int64
	full bool // used by accept alone
}

// accept takes connections until the listener is closed or ctx ends.
func (s *server) accept(ctx context.Context, listener *net.TCPListener) error {
	failing := false
	for {
		client, err := listener.AcceptTCP()
		if ctx.Err() != nil {
			return nil
		}
		if errors.Is(err, net.ErrClosed) {
			return fmt.Errorf("take clients' connections: %w", err)
		}
		if err != nil {
			if !failing {
				s.log.Error("clients' connections are not taken for now", "error", err)
			}
			failing = true
			select {
			case <-ctx.Done():
			case <-time.After(acceptPause):
			}
			continue
		}
		failing = false
		if !s.admit() {
			client.Close()
			continue
		}
		go func() {
			defer s.open.Add(-1)
			s.serve(ctx, client)
		}()
	}
}

// admit counts a connection in, unless there are too many.
func (s *server) admit() bool {
	if s.open.Add(1) > s.limit {
		s.open.Add(-1)
		if !s.full {
			s.full = true
			s.log.Error("too many connections: further ones are closed", "limit", s.limit)
		}
		return false
	}
	if s.full {
		s.full = false
		s.log.Info("connections are taken again", "limit", s.limit)
	}
	return true
}

// serve joins a client with an upstream until one of them ends it.
func (s *server) serve(ctx context.Context, client *net.TCPConn) {
	defer client.Close()
	// A client that connects to see whether the balancer lives, and says nothing,
	// costs no API server a connection.
	if err := awaitFirst(client, firstByte); err != nil {
		return
	}
	u, l := s.pool.connect(ctx, client)
	if l == nil {
		return
	}
	defer l.upstream.Close()
	defer s.pool.detach(u, l)
	l.run()
}
