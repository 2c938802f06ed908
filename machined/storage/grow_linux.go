package storage

import (
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
	size, err := device.Seek(0, io.SeekEnd)
	device.Close()
	if err != nil {
		return fmt.Errorf("ask for the size of %s: %w", node, err)
	}
	root, err := os.Open(mounted)
	if err != nil {
		return err
	}
	defer root.Close()
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(root.Fd()), &st); err != nil {
		return fmt.Errorf("look at %s: %w", mounted, err)
	}
	blocks := uint64(size) / uint64(st.Bsize)
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, root.Fd(), resizeExt4, uintptr(unsafe.Pointer(&blocks))); errno != 0 {
		return fmt.Errorf("grow the file system on %s to %d blocks: %w", node, blocks, errno)
	}
	return nil
}
