package storage

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// resizeExt4 is EXT4_IOC_RESIZE_FS of include/uapi/linux/ext4.h: _IOW('f', 16, __u64).
const resizeExt4 = 1<<30 | 8<<16 | 'f'<<8 | 16

// growFilesystem makes a mounted ext4 as large as its partition. One that is
// already is left alone; a power cut leaves it at its old size or at the new one.
func growFilesystem(mounted, node string) error {
	device, err := os.Open(node)
	if err != nil {
		return err
	}
	defer device.Close()
	size, err := device.Seek(0, io.SeekEnd)
	if err != nil {
		return fmt.Errorf("ask for the size of %s: %w", node, err)
	}
	have, blockSize, err := ext4Size(device)
	if err != nil {
		return fmt.Errorf("%s: %w", node, err)
	}
	blocks := uint64(size) / blockSize
	if blocks <= have {
		return nil
	}
	root, err := os.Open(mounted)
	if err != nil {
		return err
	}
	defer root.Close()
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, root.Fd(), resizeExt4, uintptr(unsafe.Pointer(&blocks))); errno != 0 {
		return fmt.Errorf("grow the file system on %s to %d blocks: %w", node, blocks, errno)
	}
	return nil
}

// ext4Size reads an ext4's size in blocks, and a block's in bytes, from its
// superblock (Documentation/filesystems/ext4/super.rst).
func ext4Size(device io.ReaderAt) (blocks, blockSize uint64, err error) {
	const at, magicAt, countAt, logSizeAt, countHighAt, maxLogSize = 1024, 0x38, 0x4, 0x18, 0x150, 6
	superblock := make([]byte, 1024)
	if _, err := device.ReadAt(superblock, at); err != nil {
		return 0, 0, fmt.Errorf("read the ext4 superblock: %w", err)
	}
	number := func(offset int) uint64 { return uint64(binary.LittleEndian.Uint32(superblock[offset:])) }
	if binary.LittleEndian.Uint16(superblock[magicAt:]) != unix.EXT4_SUPER_MAGIC || number(logSizeAt) > maxLogSize {
		return 0, 0, errors.New("no ext4 superblock")
	}
	return number(countHighAt)<<32 | number(countAt), 1024 << number(logSizeAt), nil
}
