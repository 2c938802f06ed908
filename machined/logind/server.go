package logind

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/keelson-os/keelson/machined/supervise"
)

// Socket is where kubelet finds the bus: its DBUS_SYSTEM_BUS_ADDRESS says so.
// It is not the system bus's customary place, so that nothing else takes it for
// one.
const Socket = "/run/keelson/logind/bus"

const (
	// maxClients bounds the connections; kubelet has one.
	maxClients = 16
	// handshakeTimeout bounds what comes before a connection's first message.
	handshakeTimeout = 10 * time.Second
	// sendTimeout bounds what a client that does not read can hold up.
	sendTimeout = 5 * time.Second
	// acceptPause follows a connection that could not be taken.
	acceptPause = time.Second
)

// Server is the bus and, on it, logind.
type Server struct {
	log *slog.Logger

	mu         sync.Mutex // guards all below
	clients    map[*client]bool
	named      int // clients so far
	inhibitors map[*inhibitor]bool
	preparing  bool
}

// New makes a server without a socket.
func New(log *slog.Logger) *Server {
	return &Server{log: log, clients: map[*client]bool{}, inhibitors: map[*inhibitor]bool{}}
}

// Listen makes the socket, which nobody but root can open.
func Listen(socket string) (*net.UnixListener, error) {
	// The folder is closed to others before the socket is in it.
	if err := os.MkdirAll(filepath.Dir(socket), 0o700); err != nil {
		return nil, fmt.Errorf("make the folder of kubelet's bus: %w", err)
	}
	if err := os.Remove(socket); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("remove kubelet's bus of an earlier run: %w", err)
	}
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("make kubelet's bus: %w", err)
	}
	if err := os.Chmod(socket, 0o600); err != nil {
		listener.Close()
		return nil, fmt.Errorf("close kubelet's bus to others: %w", err)
	}
	return listener, nil
}

// Serve answers on the listener until ctx ends. What is inhibited then is not
// any more.
func (s *Server) Serve(ctx context.Context, listener *net.UnixListener) error {
	var clients sync.WaitGroup
	defer clients.Wait()
	defer s.closeAll()
	defer context.AfterFunc(ctx, func() { listener.Close() })()
	for {
		conn, err := listener.AcceptUnix()
		if ctx.Err() != nil {
			if err == nil {
				conn.Close()
			}
			return nil
		}
		if errors.Is(err, net.ErrClosed) {
			return fmt.Errorf("serve kubelet's bus: %w", err)
		}
		if err != nil { // no file is free, for example; it passes
			s.log.Warn("kubelet's bus", "error", err)
			select {
			case <-time.After(acceptPause):
			case <-ctx.Done():
			}
			continue
		}
		c, err := s.admit(conn)
		if err != nil {
			s.log.Warn("kubelet's bus refused a client", "error", err)
			conn.Close()
			continue
		}
		clients.Go(func() {
			defer s.dismiss(c)
			err := supervise.Protect(ctx, s.log, "client of kubelet's bus", supervise.FailTask, func(context.Context) error { return c.serve() })
			if err != nil && ctx.Err() == nil {
				s.log.Debug("a client of kubelet's bus is gone", "client", c.name, "error", err)
			}
		})
	}
}

func (s *Server) admit(conn *net.UnixConn) (*client, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.clients) >= maxClients {
		return nil, fmt.Errorf("it has %d already", maxClients)
	}
	s.named++
	c := &client{server: s, conn: conn, name: fmt.Sprintf(":1.%d", s.named)}
	s.clients[c] = true
	return c, nil
}

func (s *Server) dismiss(c *client) {
	c.conn.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.clients, c)
}

func (s *Server) closeAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.clients {
		c.conn.Close()
	}
	for held := range s.inhibitors {
		held.pipe.Close()
	}
}
