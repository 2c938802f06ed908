package logind

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/godbus/dbus/v5"

	"github.com/keelson-os/keelson/machined/supervise"
)

// maxInhibitors bounds what is held at a time; kubelet holds one.
const maxInhibitors = 64

// inhibitor is one who wants the shutdown to wait for it: as long as the other
// end of the pipe is open in some process, so that it ends with the process.
type inhibitor struct {
	who, why string
	pipe     *os.File      // our end
	released chan struct{} // closed when the other is
}

// inhibit answers logind's call of that name with the file whose closing ends
// the delay.
func (c *client) inhibit(call *dbus.Message) error {
	what := strings.Split(argument(call, 0), ":")
	if !slices.Contains(what, "shutdown") || argument(call, 3) != "delay" {
		return c.refuse(call, errOnlyDelays)
	}
	ours, theirs, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("make an inhibitor: %w", err)
	}
	defer theirs.Close() // the client has a copy then
	made := &inhibitor{who: shortened(argument(call, 1)), why: shortened(argument(call, 2)), pipe: ours, released: make(chan struct{})}
	if refused := c.server.hold(made); refused != nil {
		ours.Close()
		return c.refuse(call, refused)
	}
	go c.server.await(made)
	c.server.log.Debug("delays shutdowns from now on", "who", made.who, "why", made.why)
	return c.reply(call, loginUnique, dbus.UnixFD(theirs.Fd()))
}

// shortened keeps a client's words fit for a log line.
func shortened(words string) string { return words[:min(len(words), 100)] }

// hold takes an inhibitor in. Who comes when the others were told already would
// never hear that it has to go.
func (s *Server) hold(made *inhibitor) *dbus.Error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.preparing:
		return errGoingDown
	case len(s.inhibitors) >= maxInhibitors:
		return errTooMany
	}
	s.inhibitors[made] = true
	return nil
}

// await marks an inhibitor as released once nobody has its other end open.
func (s *Server) await(held *inhibitor) {
	_ = supervise.Protect(context.Background(), s.log, "inhibitor of "+held.who, supervise.FailTask, func(context.Context) error {
		// Its end is told by an end of file, or by ours being closed.
		_, err := io.Copy(io.Discard, held.pipe)
		return err
	})
	held.pipe.Close()
	s.mu.Lock()
	delete(s.inhibitors, held)
	s.mu.Unlock()
	close(held.released)
}

// Prepare tells all who asked that the node goes down, and waits until those
// who delay it are done. When ctx ends first, the error says who is not.
func (s *Server) Prepare(ctx context.Context) error {
	s.mu.Lock()
	s.preparing = true
	var clients []*client
	for c := range s.clients {
		clients = append(clients, c)
	}
	var held []*inhibitor
	for each := range s.inhibitors {
		held = append(held, each)
	}
	s.mu.Unlock()
	for _, c := range clients {
		if err := c.prepareForShutdown(); err != nil {
			s.log.Warn("not told that the node goes down", "client", c.name, "error", err)
		}
	}
	var late []error
	for _, each := range held {
		select {
		case <-each.released:
		case <-ctx.Done():
			late = append(late, fmt.Errorf("%s is not done (%s)", each.who, each.why))
		}
	}
	return errors.Join(late...)
}
