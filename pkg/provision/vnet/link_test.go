package vnet

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"testing"
	"time"
)

// plug serves one end of a pipe as port "guest" and returns the other end,
// where a test plays QEMU.
func plug(t *testing.T, sw *Switch) (qemu net.Conn, ended <-chan error) {
	t.Helper()
	ours, theirs := net.Pipe()
	done := make(chan error, 1)
	ctx, cancel := context.WithCancel(t.Context())
	go func() { done <- Serve(ctx, sw, "guest", ours) }()
	t.Cleanup(func() {
		cancel()
		theirs.Close()
	})
	if err := theirs.SetDeadline(time.Now().Add(deadline)); err != nil {
		t.Fatal(err)
	}
	return theirs, done
}

func writeWire(t *testing.T, w io.Writer, size int, body []byte) {
	t.Helper()
	wire := append(binary.BigEndian.AppendUint32(nil, uint32(size)), body...)
	if _, err := w.Write(wire); err != nil {
		t.Fatalf("write to the switch: %v", err)
	}
}

func readWire(t *testing.T, r io.Reader) []byte {
	t.Helper()
	var size [4]byte
	if _, err := io.ReadFull(r, size[:]); err != nil {
		t.Fatalf("read from the switch: %v", err)
	}
	body := make([]byte, binary.BigEndian.Uint32(size[:]))
	if _, err := io.ReadFull(r, body); err != nil {
		t.Fatalf("read from the switch: %v", err)
	}
	return body
}

func TestServeCarriesFrames(t *testing.T) {
	sw := NewSwitch()
	other := attach(t, sw, "other")[0]
	qemu, _ := plug(t, sw)

	short := make([]byte, minFrame-1)
	writeWire(t, qemu, len(short), short) // ignored, and the link stays up
	out := frame(broadcast, macA, "out")
	writeWire(t, qemu, len(out), out)
	wantFrame(t, other, out)

	in := frame(macA, macB, "in")
	other.Send(in)
	if got := readWire(t, qemu); string(got) != string(in) {
		t.Errorf("the guest received %x, want %x", got, in)
	}
}

func TestServeClosesOnOversizedFrame(t *testing.T) {
	qemu, ended := plug(t, NewSwitch())
	writeWire(t, qemu, maxFrame+1, nil)
	select {
	case err := <-ended:
		if err == nil {
			t.Error("the link ended without an error")
		}
	case <-time.After(deadline):
		t.Fatal("the link stayed open")
	}
	if _, err := qemu.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("read after the end: %v, want %v", err, io.EOF)
	}
}

func TestStalledGuestIsCutOffAlone(t *testing.T) {
	sw := NewSwitch()
	ports := attach(t, sw, "a", "b")
	plug(t, sw) // never reads: the write to it blocks for ever
	eventually(t, "the guest is plugged in", func() bool { return len(sw.Ports()) == 3 })
	for range 3 * queueFrames {
		f := frame(broadcast, macA, "x")
		ports[0].Send(f)
		wantFrame(t, ports[1], f)
	}
}

// eventually waits for a named condition.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	late := time.After(deadline)
	for !holds() {
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("still not true: %s", what)
		}
	}
}

func TestKeepConnectedReturnsToAGuestThatCameBack(t *testing.T) {
	sw := NewSwitch()
	other := attach(t, sw, "other")[0]
	socket := filepath.Join(t.TempDir(), "net")
	done := make(chan error, 1)
	ctx, cancel := context.WithCancel(t.Context())
	go func() { done <- KeepConnected(ctx, sw, "guest", socket, slog.New(slog.DiscardHandler)) }()

	for range 3 { // the guest starts, dies, starts again
		listener, err := net.Listen("unix", socket)
		if err != nil {
			t.Fatal(err)
		}
		conn := accept(t, listener)
		hello := frame(broadcast, macA, "hello")
		writeWire(t, conn, len(hello), hello)
		wantFrame(t, other, hello)
		conn.Close()
		listener.Close()
	}
	cancel()
	select {
	case err := <-done:
		if !errors.Is(err, context.Canceled) {
			t.Errorf("error %v, want %v", err, context.Canceled)
		}
	case <-time.After(deadline):
		t.Fatal("KeepConnected outlived its context")
	}
}

func accept(t *testing.T, listener net.Listener) net.Conn {
	t.Helper()
	if err := listener.(*net.UnixListener).SetDeadline(time.Now().Add(deadline)); err != nil {
		t.Fatal(err)
	}
	conn, err := listener.Accept()
	if err != nil {
		t.Fatalf("the network did not dial: %v", err)
	}
	return conn
}
