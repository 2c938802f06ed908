package storage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	// eraseStep is how much is erased by one call: between two of them it may be
	// stopped.
	eraseStep = 1 << 30
	// eraseEdge is what is zeroed at a partition's beginning and end where all of
	// it would take too long: the places by which a file system is recognized.
	eraseEdge = 16 * mebibyte
)

// erase empties a partition that nobody has mounted. all asks for zeros
// everywhere, for a small one; else its edges are zeroed, and the rest is given
// back to the disk if it can take that.
func erase(ctx context.Context, node string, all bool) error {
	// O_EXCL fails while it is mounted.
	device, err := os.OpenFile(node, os.O_RDWR|unix.O_EXCL, 0)
	if err != nil {
		return err
	}
	defer device.Close()
	size, err := device.Seek(0, io.SeekEnd)
	if err != nil {
		return fmt.Errorf("ask for the size of %s: %w", node, err)
	}
	if err := eraseRange(ctx, device, unix.BLKDISCARD, 0, size); err != nil && !errors.Is(err, unix.EOPNOTSUPP) {
		return fmt.Errorf("discard %s: %w", node, err)
	}
	// A disk may keep what was discarded.
	edge := min(eraseEdge, size)
	if all {
		edge = size
	}
	for _, start := range []int64{0, size - edge} {
		if err := eraseRange(ctx, device, unix.BLKZEROOUT, start, start+edge); err != nil {
			return fmt.Errorf("zero %s: %w", node, err)
		}
	}
	if err := device.Sync(); err != nil {
		return fmt.Errorf("flush %s: %w", node, err)
	}
	return nil
}

// eraseRange makes one kind of call for all of a range, a step at a time.
func eraseRange(ctx context.Context, device *os.File, request uint, start, end int64) error {
	for start < end {
		if err := ctx.Err(); err != nil {
			return err
		}
		length := min(end-start, eraseStep)
		// BLKDISCARD and BLKZEROOUT of include/uapi/linux/fs.h: offset and length.
		argument := [2]uint64{uint64(start), uint64(length)}
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, device.Fd(), uintptr(request), uintptr(unsafe.Pointer(&argument)))
		if errno != 0 {
			return errno
		}
		start += length
	}
	return nil
}
