package main

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/keelson-os/keelson/machined/host"
	"github.com/keelson-os/keelson/machined/host/verity"
	"github.com/keelson-os/keelson/pkg/osdisk"
)

// rootImage is where a squashfs and its hash tree are.
type rootImage struct {
	device string
	// start and size, in bytes, tell the part of the device that it is in, if the
	// kernel knows no partition there; size is zero if it is the whole device.
	start, size int64
	hashOffset  int64
	superblock  verity.Superblock
	// slot tells that it is a slot of an installed node's disk.
	slot bool
}

// search is what is looked for.
type search struct {
	want verity.RootHash
	// slots tells that it may be in a slot of an installed node's disk.
	slots bool
}

// findRoot waits for a block device with the wanted root image, and loads the
// drivers of whatever appears meanwhile. When ctx ends first, the error lists
// every block device that was there and what it held instead.
func findRoot(ctx context.Context, uevents *host.Uevents, root fs.FS, drivers *host.Drivers, s search) (rootImage, error) {
	var image rootImage
	var seen map[string]error
	err := uevents.WaitUntil(ctx, func() (bool, error) {
		var err error
		image, seen, err = lookForRoot(root, os.Open, s)
		if err != nil || image.device != "" {
			return true, err
		}
		// Drivers take their time, so none is loaded that is not needed.
		if err := drivers.Load(ctx); err != nil {
			say(errorLevel, "%v", err) // it may drive something else
		}
		image, seen, err = lookForRoot(root, os.Open, s)
		return image.device != "", err
	})
	if errors.Is(err, context.DeadlineExceeded) {
		return rootImage{}, notFound(s.want, seen)
	}
	return image, err
}

// lookForRoot looks at every block device once. A zero image means that none is
// the wanted one, for the reasons in seen.
func lookForRoot(root fs.FS, open func(string) (*os.File, error), s search) (image rootImage, seen map[string]error, err error) {
	devices, err := fs.ReadDir(root, "sys/class/block")
	if err != nil {
		return rootImage{}, nil, fmt.Errorf("list the block devices: %w", err)
	}
	// The node's own disk comes before a medium with the same image in it.
	slices.SortStableFunc(devices, func(a, b fs.DirEntry) int {
		return cmp.Compare(rank(root, a.Name()), rank(root, b.Name()))
	})
	seen = map[string]error{}
	for _, device := range devices {
		// A slash in a device's name is an exclamation mark in sysfs.
		path := "/dev/" + strings.ReplaceAll(device.Name(), "!", "/")
		slot := rank(root, device.Name()) == slotRank
		if slot && !s.slots {
			seen[path] = errors.New("a slot of an installed node")
			continue
		}
		whole := func() bool { return isWhole(root, device.Name()) }
		image, err := inspectDevice(path, whole, open, s.want)
		if err == nil {
			image.slot = slot
			return image, seen, nil
		}
		seen[path] = err
	}
	return rootImage{}, seen, nil
}

// slotRank is the rank of partitions with the name of a slot.
const slotRank = 0

// rank orders devices: slots are first.
func rank(root fs.FS, name string) int {
	uevent, err := fs.ReadFile(root, "sys/class/block/"+name+"/uevent")
	if err != nil {
		return 1
	}
	for line := range strings.Lines(string(uevent)) {
		switch strings.TrimSpace(line) {
		case "PARTNAME=" + osdisk.RootA.Name, "PARTNAME=" + osdisk.RootB.Name:
			return slotRank
		}
	}
	return 1
}

// isWhole tells whether a device is one in which the kernel looked for partitions
// and found none, or did not look: it does not on CDs.
func isWhole(root fs.FS, name string) bool {
	for _, pattern := range []string{"sys/class/block/" + name + "/partition", "sys/class/block/" + name + "/*/partition"} {
		if found, _ := fs.Glob(root, pattern); len(found) > 0 { // the patterns are good
			return false
		}
	}
	return true
}

// inspectDevice looks for the root image at a device's beginning, and, on a whole
// one, in its partitions.
func inspectDevice(path string, whole func() bool, open func(string) (*os.File, error), want verity.RootHash) (rootImage, error) {
	device, err := open(path)
	if err != nil {
		return rootImage{}, err
	}
	defer device.Close()
	image, err := inspect(device, want)
	// Asked only now: a disk that was just found is scanned before it can be opened.
	if err != nil && whole() {
		if inside, insideErr := inspectPartitions(device, want); !errors.Is(insideErr, osdisk.ErrNoTable) {
			image, err = inside, insideErr
		}
	}
	image.device = path
	return image, err
}

// inspectPartitions looks for the root image in the partitions of a medium. The
// error is osdisk.ErrNoTable if it has none.
func inspectPartitions(device *os.File, want verity.RootHash) (rootImage, error) {
	size, err := device.Seek(0, io.SeekEnd)
	if err != nil {
		return rootImage{}, err
	}
	table, err := osdisk.ReadTable(device, uint64(size)/osdisk.MediumSector, osdisk.MediumSector)
	if errors.Is(err, io.EOF) {
		return rootImage{}, osdisk.ErrNoTable
	}
	if err != nil {
		return rootImage{}, err
	}
	err = errors.New("GPT without a root image")
	for _, entry := range osdisk.RootImages(table) {
		start, length := int64(entry.Start)*osdisk.MediumSector, int64(entry.End-entry.Start+1)*osdisk.MediumSector
		var image rootImage
		if image, err = inspect(io.NewSectionReader(device, start, length), want); err == nil {
			image.start, image.size = start, length
			return image, nil
		}
	}
	return rootImage{}, err
}

// inspect tells whether a device holds the wanted root image. The tree's
// superblock follows the squashfs at the next block.
func inspect(device io.ReaderAt, want verity.RootHash) (rootImage, error) {
	size, err := squashfsSize(device)
	if err != nil {
		return rootImage{}, err
	}
	const block = 4096
	offset := (size + block - 1) / block * block
	superblock, err := verity.ReadSuperblock(device, offset)
	if err != nil {
		return rootImage{}, fmt.Errorf("squashfs: %w", err)
	}
	if superblock.DataSize() != offset {
		return rootImage{}, fmt.Errorf("squashfs of %d bytes, of which the hash tree covers %d", offset, superblock.DataSize())
	}
	got, err := superblock.RootHash(device, offset)
	if err != nil {
		return rootImage{}, err
	}
	if got != want {
		return rootImage{}, fmt.Errorf("root image with the root hash %s", got)
	}
	return rootImage{hashOffset: offset, superblock: superblock}, nil
}

// squashfsSize reads a squashfs's size in bytes from its superblock
// (Documentation/filesystems/squashfs.rst, struct squashfs_super_block).
func squashfsSize(device io.ReaderAt) (int64, error) {
	const (
		bytesUsedAt = 40
		// Larger than any image, and small enough to round up.
		maxSize = 1 << 40
	)
	var superblock [96]byte
	if n, err := device.ReadAt(superblock[:], 0); err != nil && (n > 0 || !errors.Is(err, io.EOF)) {
		return 0, fmt.Errorf("read the first sector: %w", err)
	}
	if string(superblock[:4]) != "hsqs" {
		return 0, errors.New("no squashfs")
	}
	size := binary.LittleEndian.Uint64(superblock[bytesUsedAt:])
	if size < uint64(len(superblock)) || size > maxSize {
		return 0, fmt.Errorf("squashfs that claims %d bytes", size)
	}
	return int64(size), nil
}

// notFoundError says that no device holds the wanted root image.
type notFoundError struct{ text string }

func (e *notFoundError) Error() string { return e.text }

func notFound(want verity.RootHash, seen map[string]error) error {
	var b strings.Builder
	fmt.Fprintf(&b, "no root image with the root hash %s appeared; attach the disk it is on. Devices here:", want)
	for _, path := range slices.Sorted(maps.Keys(seen)) {
		fmt.Fprintf(&b, "\n%s: %v", path, seen[path])
	}
	if len(seen) == 0 {
		b.WriteString("\nnone at all: the driver for its controller may be missing")
	}
	return &notFoundError{b.String()}
}
