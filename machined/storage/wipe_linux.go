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
	// stopped. A slow disk writes so much in a few seconds.
	eraseStep = 256 * mebibyte
	// eraseEdge is what is zeroed at a partition's beginning and end where all of
	// it would take too long: the places by which a file system is recognized.
	eraseEdge = 16 * mebibyte
)

// erase empties a partition that nobody has mounted. It is given back to the disk
// if that can take it, and its edges are zeroed; all asks for zeros everywhere, of
// which it tells how far it is.
func erase(ctx context.Context, node string, all bool, progress func(percent int)) error {
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
	if err := eraseRange(ctx, device, unix.BLKDISCARD, 0, size, nil); err != nil && !errors.Is(err, unix.EOPNOTSUPP) {
		return fmt.Errorf("discard %s: %w", node, err)
	}
	// A disk may keep what was discarded.
	edge := min(eraseEdge, size)
	for _, start := range []int64{0, size - edge} {
		if err := eraseRange(ctx, device, unix.BLKZEROOUT, start, start+edge, nil); err != nil {
			return fmt.Errorf("zero %s: %w", node, err)
		}
	}
	if all {
		err := eraseRange(ctx, device, unix.BLKZEROOUT, 0, size, func(done int64) { progress(int(100 * done / size)) })
		if err != nil {
			return fmt.Errorf("zero %s: %w", node, err)
		}
	}
	if err := device.Sync(); err != nil {
		return fmt.Errorf("flush %s: %w", node, err)
	}
	return nil
}

// eraseRange makes one kind of call for all of a range, a step at a time. After each
// it tells where it is, if anyone wants to know.
func eraseRange(ctx context.Context, device *os.File, request uint, start, end int64, at func(int64)) error {
	for start < end {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		length := min(end-start, eraseStep)
		// BLKDISCARD and BLKZEROOUT of include/uapi/linux/fs.h: offset and length.
		argument := [2]uint64{uint64(start), uint64(length)}
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, device.Fd(), uintptr(request), uintptr(unsafe.Pointer(&argument)))
		if errno != 0 {
			return errno
		}
		start += length
		if at != nil {
			at(start)
		}
	}
	return nil
}
