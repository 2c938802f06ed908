package vnet

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
	"net"
	"time"

	"golang.org/x/sync/errgroup"
)

// Pauses between attempts to reach a guest's socket. The first is short
// because QEMU makes the socket some ten milliseconds after it starts.
const (
	redialMin = 20 * time.Millisecond
	redialMax = time.Second
)

// KeepConnected connects the guest behind a QEMU stream socket (-netdev
// stream,server=on) to a switch port, again and again until ctx ends: QEMU
// listens, so guests and network can start and restart in any order.
func KeepConnected(ctx context.Context, sw *Switch, port, socket string, log *slog.Logger) error {
	pause := redialMin
	for {
		conn, err := (&net.Dialer{Timeout: redialMax}).DialContext(ctx, "unix", socket)
		if err == nil {
			log.Info("guest connected", "port", port)
			err = Serve(ctx, sw, port, conn)
			log.Info("guest disconnected", "port", port, "reason", err)
			pause = redialMin
		}
		select {
		case <-time.After(pause):
			pause = min(2*pause, redialMax)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Serve moves frames between conn and a new port of that name until either
// side ends, and closes conn. On the wire each frame follows its length as
// four big-endian bytes (QEMU's net/stream.c).
func Serve(ctx context.Context, sw *Switch, name string, conn net.Conn) error {
	defer conn.Close()
	port, err := sw.Attach(name)
	if err != nil {
		return err
	}
	defer port.Detach()

	group, ctx := errgroup.WithContext(ctx)
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	group.Go(func() error { return readFrames(conn, port) })
	group.Go(func() error { return writeFrames(ctx, port, conn) })
	return group.Wait()
}

func readFrames(r io.Reader, port *Port) error {
	in := bufio.NewReaderSize(r, 256<<10)
	var header [4]byte
	for {
		if _, err := io.ReadFull(in, header[:]); err != nil {
			return fmt.Errorf("read frame length from %s: %w", port.name, err)
		}
		size := binary.BigEndian.Uint32(header[:])
		if size > maxFrame {
			return fmt.Errorf("read frame from %s: %d bytes is more than any NIC sends (%d)", port.name, size, maxFrame)
		}
		frame := make([]byte, size)
		if _, err := io.ReadFull(in, frame); err != nil {
			return fmt.Errorf("read frame from %s: %w", port.name, err)
		}
		port.Send(frame)
	}
}

func writeFrames(ctx context.Context, port *Port, w io.Writer) error {
	var out []byte
	for {
		frame, err := port.Receive(ctx)
		if err != nil {
			return err
		}
		// One write per frame: header and frame together.
		out = binary.BigEndian.AppendUint32(out[:0], uint32(len(frame)))
		out = append(out, frame...)
		if _, err := w.Write(out); err != nil {
			return fmt.Errorf("write frame to %s: %w", port.name, err)
		}
	}
}
