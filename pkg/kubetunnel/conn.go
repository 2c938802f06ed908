package kubetunnel

import (
	"io"
	"net"
)

// chunk is how many bytes go into one message at most.
const chunk = 32 << 10

// Stream is one call's two directions. Send and Recv are each called by one
// goroutine at a time. Recv fails with io.EOF when the other side sends no more.
type Stream interface {
	Send(data []byte) error
	Recv() ([]byte, error)
}

// Conn is a network connection whose bytes travel in a Stream's messages. It
// holds no more than a message for each direction: who reads slowly is sent
// slowly. Deadlines bound reading and writing here, not the other side.
type Conn struct {
	net.Conn // the near end of a pipe
	far      net.Conn
	remote   net.Addr
	done     chan struct{}
	received chan struct{}
}

// New makes a connection of a stream that has been opened; remote is what
// RemoteAddr tells. Two goroutines serve it until the stream has ended, which
// its owner sees to once Done is closed.
func New(stream Stream, remote net.Addr) *Conn {
	near, far := net.Pipe()
	c := &Conn{Conn: near, far: far, remote: remote, done: make(chan struct{}), received: make(chan struct{})}
	go c.send(stream)
	go c.receive(stream)
	return c
}

// Done is closed when the connection has ended, from whichever side, and all
// that was written has been given to the stream.
func (c *Conn) Done() <-chan struct{} { return c.done }

// Received is closed when the other side sends no more.
func (c *Conn) Received() <-chan struct{} { return c.received }

// RemoteAddr returns the address that New was given.
func (c *Conn) RemoteAddr() net.Addr { return c.remote }

func (c *Conn) send(stream Stream) {
	defer close(c.done)
	defer c.far.Close()
	buffer := make([]byte, chunk)
	for {
		n, err := c.far.Read(buffer)
		if n > 0 && stream.Send(buffer[:n]) != nil {
			// The call is over. What the other side had sent before may still be read:
			// the end of receiving is that of this too.
			_, _ = io.Copy(io.Discard, c.far)
			return
		}
		if err != nil {
			return
		}
	}
}

// receive closes the far end only: the near one reads to the end of what came.
func (c *Conn) receive(stream Stream) {
	defer close(c.received)
	defer c.far.Close()
	for {
		data, err := stream.Recv()
		if err != nil {
			return
		}
		if _, err := c.far.Write(data); err != nil {
			return
		}
	}
}
