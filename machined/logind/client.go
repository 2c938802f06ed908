package logind

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"syscall"
	"time"

	"github.com/godbus/dbus/v5"
)

const (
	// headerSize is the part of a message whose size is always the same.
	headerSize = 16
	// maxMessage bounds one, in bytes. kubelet's have some hundred.
	maxMessage = 64 << 10
)

// client is one connection.
type client struct {
	server *Server
	conn   *net.UnixConn
	name   string // on the bus: ":1.7"

	// Only the goroutine that serves the connection uses these.
	greeted bool

	mu     sync.Mutex // guards all below
	serial uint32     // of the last message sent
	// matches counts the rules it has added. There is one signal on this bus, so
	// that a rule of any text asks for that one.
	matches int
}

// serve answers the client's calls until it goes.
func (c *client) serve() error {
	in := bufio.NewReaderSize(c.conn, 4<<10)
	if err := c.conn.SetDeadline(time.Now().Add(handshakeTimeout)); err != nil {
		return err
	}
	if err := c.handshake(in); err != nil {
		return fmt.Errorf("handshake: %w", err)
	}
	if err := c.conn.SetDeadline(time.Time{}); err != nil {
		return err
	}
	for {
		call, err := readMessage(in)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if call.Type != dbus.TypeMethodCall {
			continue // this bus calls nobody, so that nothing is an answer
		}
		if err := c.answer(call); err != nil {
			return err
		}
	}
}

// readMessage reads one message. All of it is read before any of it is decoded:
// package dbus panics where a message ends too soon.
func readMessage(in io.Reader) (message *dbus.Message, err error) {
	header := make([]byte, headerSize)
	if _, err := io.ReadFull(in, header); err != nil {
		return nil, err
	}
	var order binary.ByteOrder = binary.LittleEndian
	if header[0] == 'B' {
		order = binary.BigEndian
	}
	body, fields := uint64(order.Uint32(header[4:])), uint64(order.Uint32(header[12:]))
	fields = (fields + 7) &^ 7
	if headerSize+fields+body > maxMessage {
		return nil, fmt.Errorf("a message of %d bytes; the most is %d", headerSize+fields+body, maxMessage)
	}
	text := append(header, make([]byte, fields+body)...)
	if _, err := io.ReadFull(in, text[headerSize:]); err != nil {
		return nil, fmt.Errorf("read a message: %w", err)
	}
	defer func() {
		if value := recover(); value != nil {
			err = fmt.Errorf("a damaged message: %v", value)
		}
	}()
	return dbus.DecodeMessage(bytes.NewReader(text))
}

// reply answers a call, unless the caller wants no answer.
func (c *client) reply(call *dbus.Message, sender string, body ...any) error {
	return c.respond(call, sender, dbus.TypeMethodReply, nil, body...)
}

// refuse answers a call with an error.
func (c *client) refuse(call *dbus.Message, failure *dbus.Error) error {
	name := map[dbus.HeaderField]dbus.Variant{dbus.FieldErrorName: dbus.MakeVariant(failure.Name)}
	return c.respond(call, busName, dbus.TypeError, name, failure.Body...)
}

func (c *client) respond(call *dbus.Message, sender string, kind dbus.Type, headers map[dbus.HeaderField]dbus.Variant, body ...any) error {
	if call.Flags&dbus.FlagNoReplyExpected != 0 {
		return nil
	}
	if headers == nil {
		headers = map[dbus.HeaderField]dbus.Variant{}
	}
	headers[dbus.FieldReplySerial] = dbus.MakeVariant(call.Serial())
	headers[dbus.FieldDestination] = dbus.MakeVariant(c.name)
	headers[dbus.FieldSender] = dbus.MakeVariant(sender)
	return c.send(&dbus.Message{Type: kind, Flags: dbus.FlagNoReplyExpected, Headers: headers, Body: body})
}

// send writes one message with what files its body has.
func (c *client) send(message *dbus.Message) error {
	if len(message.Body) > 0 {
		message.Headers[dbus.FieldSignature] = dbus.MakeVariant(dbus.SignatureOf(message.Body...))
	}
	files, err := message.CountFds()
	if err != nil {
		return fmt.Errorf("encode a message: %w", err)
	}
	if files > 0 {
		message.Headers[dbus.FieldUnixFDs] = dbus.MakeVariant(uint32(files))
	}
	var text bytes.Buffer
	descriptors, err := message.EncodeToWithFDs(&text, binary.LittleEndian)
	if err != nil {
		return fmt.Errorf("encode a message: %w", err)
	}
	var rights []byte
	if len(descriptors) > 0 {
		rights = syscall.UnixRights(descriptors...)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	// Package dbus numbers only the messages of its own connections.
	c.serial++
	binary.LittleEndian.PutUint32(text.Bytes()[8:], c.serial)
	if err := c.conn.SetWriteDeadline(time.Now().Add(sendTimeout)); err != nil {
		return err
	}
	if _, _, err := c.conn.WriteMsgUnix(text.Bytes(), rights, nil); err != nil {
		return fmt.Errorf("send to %s: %w", c.name, err)
	}
	return nil
}
