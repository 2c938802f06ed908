package containers

import (
	"errors"
	"io"

	"github.com/keelson-os/keelson/pkg/api/image"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// maxChunk is the API's limit of one message of an import, in bytes.
const maxChunk = 1 << 20

// chunks reads the bytes of a stream of messages.
type chunks struct {
	receive func() (*image.ImportRequest, error)
	rest    []byte
	end     error
}

// begin reads the first message, which tells whether to pin.
func (c *chunks) begin() (pin bool, err error) {
	first, err := c.receive()
	if errors.Is(err, io.EOF) {
		c.end = err
		return false, nil // an empty archive
	}
	if err != nil {
		return false, err
	}
	return first.GetPin(), c.take(first)
}

func (c *chunks) take(message *image.ImportRequest) error {
	if len(message.GetChunk()) > maxChunk {
		return status.Errorf(codes.InvalidArgument, "a chunk of %d bytes; at most %d are allowed", len(message.GetChunk()), maxChunk)
	}
	c.rest = message.GetChunk()
	return nil
}

func (c *chunks) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for len(c.rest) == 0 {
		if c.end != nil {
			return 0, c.end
		}
		message, err := c.receive()
		if err == nil {
			err = c.take(message)
		}
		if err != nil {
			return 0, err // io.EOF when the client is done
		}
	}
	n := copy(p, c.rest)
	c.rest = c.rest[n:]
	return n, nil
}
