package main

import (
	"errors"
	"io"
	"net"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// bufferSize is enough for two TLS records.
const bufferSize = 32 << 10

// buffers are borrowed once there is something to read: a connection that is
// idle, as most are, holds none.
var buffers = sync.Pool{New: func() any { return new([bufferSize]byte) }}

// link is a client's connection and its upstream's.
type link struct {
	client, upstream *net.TCPConn
}

// run passes on what is sent, both ways, until both have ended or one has failed.
func (l *link) run() {
	var back sync.WaitGroup
	back.Go(func() { l.pass(l.client, l.upstream) })
	l.pass(l.upstream, l.client)
	back.Wait()
}

// pass passes on what from sends, its end too; the other way stays open then.
func (l *link) pass(to, from *net.TCPConn) {
	err := relay(to, from)
	if err == nil {
		err = to.CloseWrite()
	}
	if err != nil {
		l.close()
	}
}

// close ends both connections; run returns then.
func (l *link) close() {
	l.client.Close()
	l.upstream.Close()
}

// relay copies until from's end. (io.Copy would splice, which takes a pipe, so
// four file numbers, for as long as a connection lasts.)
func relay(to, from *net.TCPConn) error {
	raw, err := from.SyscallConn()
	if err != nil {
		return err
	}
	for {
		buffer, n, err := borrow(raw.Read)
		if err != nil {
			return err
		}
		if n == 0 {
			return nil
		}
		_, err = to.Write(buffer[:n])
		buffers.Put(buffer)
		if err != nil {
			return err
		}
	}
}

// borrow waits until there is something to read and reads it. At the end there
// is nothing, and no buffer.
func borrow(wait func(func(fd uintptr) bool) error) (buffer *[bufferSize]byte, n int, err error) {
	var failed error
	err = wait(func(fd uintptr) bool {
		buffer = buffers.Get().(*[bufferSize]byte)
		n, failed = again(func() (int, error) { return unix.Read(int(fd), buffer[:]) })
		if failed == nil && n > 0 {
			return true
		}
		buffers.Put(buffer)
		buffer = nil
		return !errors.Is(failed, unix.EAGAIN)
	})
	return buffer, max(n, 0), errors.Join(err, failed)
}

// awaitFirst waits until the client has said something and leaves it unread.
func awaitFirst(client *net.TCPConn, within time.Duration) error {
	raw, err := client.SyscallConn()
	if err != nil {
		return err
	}
	if err := client.SetReadDeadline(time.Now().Add(within)); err != nil {
		return err
	}
	var n int
	var failed error
	err = raw.Read(func(fd uintptr) bool {
		n, failed = again(func() (int, error) {
			n, _, err := unix.Recvfrom(int(fd), make([]byte, 1), unix.MSG_PEEK)
			return n, err
		})
		return !errors.Is(failed, unix.EAGAIN)
	})
	if err := errors.Join(err, failed); err != nil {
		return err
	}
	if n == 0 {
		return io.EOF
	}
	return client.SetReadDeadline(time.Time{})
}

// again repeats what a signal interrupted.
func again(call func() (int, error)) (int, error) {
	for {
		if n, err := call(); !errors.Is(err, unix.EINTR) {
			return n, err
		}
	}
}
