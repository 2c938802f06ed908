package host

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// KernelMessage is one record of the kernel's message buffer.
type KernelMessage struct {
	// Sequence counts up from 0 at boot; a hole says that records were lost.
	Sequence  uint64
	SinceBoot time.Duration
	// Priority is the syslog severity, 0 (emergency) to 7 (debug).
	Priority uint8
	// Facility is the syslog facility; 0 is the kernel.
	Facility uint8
	Text     string
}

// kmsgRecordMax is more than the kernel's PRINTKRB_RECORD_MAX.
const kmsgRecordMax = 16 << 10

// KernelLog yields the kernel's messages from the oldest that is kept. With
// follow it waits for new ones until ctx ends, which is then its last error;
// without, it ends after the newest.
func KernelLog(ctx context.Context, follow bool) iter.Seq2[KernelMessage, error] {
	return func(yield func(KernelMessage, error) bool) {
		fd, err := unix.Open("/dev/kmsg", unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
		if err != nil {
			yield(KernelMessage{}, fmt.Errorf("open /dev/kmsg: %w", err))
			return
		}
		// A non-blocking descriptor is waited for by the runtime's poller, so
		// that a follower costs no thread.
		f := os.NewFile(uintptr(fd), "/dev/kmsg")
		defer f.Close()
		read := f.Read
		if !follow {
			read = func(b []byte) (int, error) { return unix.Read(fd, b) }
		}
		stop := context.AfterFunc(ctx, func() { _ = f.SetReadDeadline(time.Unix(1, 0)) })
		defer stop()
		err = readKernelLog(read, yield)
		if ctx.Err() != nil && err != nil {
			err = ctx.Err()
		}
		if err != nil {
			yield(KernelMessage{}, err)
		}
	}
}

// readKernelLog reads one record a call until there is none (nil), the reader
// fails, or yield has enough (nil).
func readKernelLog(read func([]byte) (int, error), yield func(KernelMessage, error) bool) error {
	buffer := make([]byte, kmsgRecordMax)
	for {
		n, err := read(buffer)
		switch {
		case errors.Is(err, unix.EAGAIN):
			return nil
		case errors.Is(err, unix.EPIPE):
			continue // records were overwritten; the next read has the oldest left
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return fmt.Errorf("read /dev/kmsg: %w", err)
		case n == 0:
			return nil
		}
		message, err := ParseKernelMessage(string(buffer[:n]))
		if err != nil {
			return err
		}
		if !yield(message, nil) {
			return nil
		}
	}
}

// ParseKernelMessage parses a record as /dev/kmsg gives it
// (Documentation/ABI/testing/dev-kmsg): "6,339,5140900,-;text\n KEY=value\n".
func ParseKernelMessage(record string) (KernelMessage, error) {
	prefix, text, ok := strings.Cut(record, ";")
	fields := strings.Split(prefix, ",")
	if !ok || len(fields) < 3 {
		return KernelMessage{}, fmt.Errorf("kernel message %q: want priority,sequence,time;text", record)
	}
	priority, err1 := strconv.ParseUint(fields[0], 10, 11)
	sequence, err2 := strconv.ParseUint(fields[1], 10, 64)
	// 53 bits of microseconds are 285 years, and fit a Duration.
	micros, err3 := strconv.ParseUint(fields[2], 10, 53)
	if err := errors.Join(err1, err2, err3); err != nil {
		return KernelMessage{}, fmt.Errorf("kernel message %q: %w", record, err)
	}
	// Lines after the first are the device's properties, for udev.
	text, _, _ = strings.Cut(text, "\n")
	return KernelMessage{
		Sequence:  sequence,
		SinceBoot: time.Duration(micros) * time.Microsecond,
		Priority:  uint8(priority & 7),
		Facility:  uint8(priority >> 3),
		Text:      unescape(text),
	}, nil
}

// unescape undoes the \x1b of bytes that are not printable ASCII.
func unescape(s string) string {
	if !strings.Contains(s, `\x`) {
		return s
	}
	var b strings.Builder
	for len(s) > 0 {
		if len(s) >= 4 && s[:2] == `\x` {
			if c, err := strconv.ParseUint(s[2:4], 16, 8); err == nil {
				b.WriteByte(byte(c))
				s = s[4:]
				continue
			}
		}
		b.WriteByte(s[0])
		s = s[1:]
	}
	return strings.ToValidUTF8(b.String(), "�")
}
