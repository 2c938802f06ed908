package storage

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"

	"github.com/keelson-os/keelson/machined/host"
)

// Programs of e2fsprogs; in the root image /usr/sbin is a link to /usr/bin.
const (
	mke2fs = "/usr/sbin/mke2fs"
	e2fsck = "/usr/sbin/e2fsck"
)

// Blocks that pods cannot use, so that what fills /var does not stop etcd: it
// needs its quota of 4 GiB at the most, and some for its log. On a small disk it
// is ext4's customary share.
const (
	reservedBytes   = 6 << 30
	reservedPercent = 5
)

// reserved is the share of a file system that is kept, in per cent.
func reserved(size int64) string {
	return strconv.FormatFloat(min(reservedPercent, 100*reservedBytes/float64(size)), 'f', 3, 64)
}

// makeFilesystem makes an empty ext4 and waits until it is on the disk. size
// is the partition's, in bytes.
func makeFilesystem(ctx context.Context, machine host.OS, node, label string, size int64) error {
	output, err := machine.Run(ctx, mke2fs, "-q", "-F", "-t", "ext4", "-L", label,
		"-m", reserved(size),
		// The kernel clears the inode tables later, at its leisure; the disk was
		// blank, so there is nothing to discard.
		"-E", "lazy_itable_init=1,lazy_journal_init=1,nodiscard", node)
	if err != nil {
		return fmt.Errorf("make the file system %s on %s: %w: %s", label, node, err, output)
	}
	device, err := os.OpenFile(node, os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("flush the file system %s: %w", label, err)
	}
	if err := errors.Join(device.Sync(), device.Close()); err != nil {
		return fmt.Errorf("flush the file system %s: %w", label, err)
	}
	return nil
}

// checkFilesystem replays the journal and repairs what is safe to repair.
func checkFilesystem(ctx context.Context, machine host.OS, node, label string) (repaired string, err error) {
	output, err := machine.Run(ctx, e2fsck, "-p", node)
	var exit *exec.ExitError
	code := 0
	if errors.As(err, &exit) {
		code = exit.ExitCode() // -1: killed
	}
	// e2fsck(8): 1 and 2 mean that all errors were corrected, 4 that some were
	// left. Anything else says nothing about the data, so nobody is to erase it.
	switch {
	case err == nil:
		return "", nil
	case code == 1 || code == 2:
		return output, nil
	case code > 0 && code&4 != 0:
		return "", fmt.Errorf("the file system %s on %s cannot be repaired safely (%w): %s; restore the node from its cluster: erase the disk and let it join again",
			label, node, err, output)
	default:
		return "", fmt.Errorf("check the file system %s on %s: %w: %s; nothing was lost: see the kernel's messages (osctl dmesg) for errors of the disk",
			label, node, err, output)
	}
}
