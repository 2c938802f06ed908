package containers

import (
	"context"
	"fmt"
	"time"

	"github.com/keelson-os/keelson/machined/host"
	"golang.org/x/sys/unix"
)

const (
	// spaceKept is what an import leaves of the disk, in bytes. containerd may
	// use the blocks that the file system keeps for etcd, and must not; and it
	// needs some to take back what it has written.
	spaceKept = 64 << 20
	// evictionShare is what part of the disk kubelet wants free (its config's
	// evictionHard, 10 %): an import that leaves less ends in pods that have to go,
	// and in images that are collected, the imported one first.
	evictionShare = 10
	// spaceLook is how often it is looked: a small archive may unpack to
	// hundreds of megabytes a second.
	spaceLook = 100 * time.Millisecond
)

// keptFromClients is what an import of theirs leaves of the disk, in bytes. The OS's
// own images come first.
func keptFromClients(dir string) (uint64, error) {
	disk, err := host.ReadDisk(dir)
	if err != nil {
		return 0, fmt.Errorf("look how large the disk of %s is: %w", dir, err)
	}
	return spaceKept + disk.Total/evictionShare, nil
}

// enoughSpace is ENOSPC when the disk has no more than keep bytes left.
func enoughSpace(dir string, keep uint64) error {
	if keep == 0 {
		return nil
	}
	disk, err := host.ReadDisk(dir)
	if err != nil {
		return fmt.Errorf("look how full the disk of %s is: %w", dir, err)
	}
	if disk.Available < keep {
		return unix.ENOSPC
	}
	return nil
}

// watchSpace ends an import that fills the disk, while it is read and while it
// is unpacked. It returns when ctx ends.
func watchSpace(ctx context.Context, dir string, keep uint64, end context.CancelCauseFunc) {
	if keep == 0 {
		return
	}
	tick := time.NewTicker(spaceLook)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if err := enoughSpace(dir, keep); err != nil {
				end(err)
				return
			}
		}
	}
}
