package main

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// freeSpace returns how many bytes the disk below dir has for everyone. etcd's
// user may take the blocks that are reserved for it besides, but those are for
// its data, not for copies of it.
func freeSpace(dir string) (int64, error) {
	var stat unix.Statfs_t
	if err := unix.Statfs(dir, &stat); err != nil {
		return 0, fmt.Errorf("ask for the free space of %s: %w", dir, err)
	}
	return int64(stat.Bavail) * stat.Bsize, nil
}

// forget drops what the kernel keeps of a file in memory. What is read next
// comes from the disk, and the memory is better used for the database.
func forget(file *os.File) {
	// Only a hint: where it is not taken, the pages go when memory is short.
	_ = unix.Fadvise(int(file.Fd()), 0, 0, unix.FADV_DONTNEED)
}
