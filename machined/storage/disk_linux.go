package storage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/diskfs/go-diskfs/partition/gpt"

	"github.com/keelson-os/keelson/machined/host"
	"github.com/keelson-os/keelson/pkg/machineconfig"
)

// disk is an opened block device.
type disk struct {
	*os.File
	path string
	// name is the kernel's: "vda".
	name string
}

// settleTime is what disks of other controllers may take longer than the first
// that fits a selector.
const settleTime = 3 * time.Second

// findDisk waits for the one disk that is meant, and says which it is and why.
func findDisk(ctx context.Context, uevents *host.Uevents, options Options) (path string, err error) {
	if !options.Selector.Given() {
		return options.Disk, nil
	}
	root := options.OS.Root()
	var chosen machineconfig.Disk
	var last error
	look := func() (bool, error) {
		disks, err := ListDisks(root, options.Medium)
		if err != nil {
			return false, err
		}
		chosen, last = choose(disks, &options.Selector)
		return !errors.Is(last, errNoMatch), nil
	}
	if err = uevents.WaitUntil(ctx, look); err == nil {
		// Another one that fits may be a moment later.
		settled, cancel := context.WithTimeout(ctx, settleTime)
		defer cancel()
		<-settled.Done()
		_, err = look()
	}
	if err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return "", err
	}
	if last != nil {
		return "", last
	}
	options.Log.Info("this disk fits machine.install.diskSelector", "disk", Describe(chosen))
	return chosen.Path, nil
}

// openDisk waits until the device exists.
func openDisk(ctx context.Context, uevents *host.Uevents, options Options) (*disk, error) {
	path, err := findDisk(ctx, uevents, options)
	if err != nil {
		return nil, err
	}
	root := options.OS.Root()
	var file *os.File
	err = uevents.WaitUntil(ctx, func() (bool, error) {
		// Not O_EXCL: it would keep mke2fs from the partitions.
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENXIO) {
			return false, nil
		}
		file = f
		return true, err
	})
	if errors.Is(err, context.DeadlineExceeded) {
		return nil, fmt.Errorf("no disk %s; the disks here: %s: correct machine.install.disk", path, listDisks(root))
	}
	if err != nil {
		return nil, fmt.Errorf("open the disk %s: %w", path, err)
	}
	if info, err := file.Stat(); err != nil || info.Mode().Type() != fs.ModeDevice {
		file.Close()
		return nil, fmt.Errorf("%s is not a disk; the disks here: %s: correct machine.install.disk", path, listDisks(root))
	}
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		file.Close()
		return nil, err
	}
	name := filepath.Base(real)
	if _, err := fs.Stat(root, "sys/class/block/"+name+"/partition"); err == nil {
		file.Close()
		return nil, fmt.Errorf("%s is a partition; the disks here: %s: correct machine.install.disk", path, listDisks(root))
	}
	if name == options.Medium {
		file.Close()
		return nil, fmt.Errorf("%s is the installation medium; the disks here: %s: correct machine.install.disk", path, listDisks(root))
	}
	return &disk{file, path, name}, nil
}

// listDisks names the disks for a message: "vda (20480 MiB), vdb (512 MiB)".
func listDisks(root fs.FS) string {
	sizes, _ := fs.Glob(root, "sys/block/*/size") // the pattern is good
	var list []string
	for _, file := range sizes {
		text, err := fs.ReadFile(root, file)
		if err != nil {
			continue
		}
		sectors, err := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 64)
		name := path.Base(path.Dir(file))
		if err != nil || sectors == 0 || strings.HasPrefix(name, "dm-") {
			continue
		}
		list = append(list, fmt.Sprintf("/dev/%s (%d MiB)", name, sectors*512/mebibyte))
	}
	if len(list) == 0 {
		return "none; its driver may be missing"
	}
	return strings.Join(list, ", ")
}

func (d *disk) observe() (observation, error) {
	size, err := d.Seek(0, io.SeekEnd)
	if err != nil {
		return observation{}, fmt.Errorf("ask for the size of %s: %w", d.path, err)
	}
	sectorSize, err := unix.IoctlGetInt(int(d.Fd()), unix.BLKSSZGET)
	if err != nil {
		return observation{}, fmt.Errorf("ask for the sector size of %s: %w", d.path, err)
	}
	o, err := observe(d, uint64(size), sectorSize)
	if err != nil {
		return o, fmt.Errorf("%s: %w", d.path, err)
	}
	return o, nil
}

// blkpgPartition is struct blkpg_partition of include/uapi/linux/blkpg.h.
type blkpgPartition struct {
	start, length int64 // bytes
	number        int32
	_             [128]byte // names, which the kernel does not use
}

// blkpgArgument is struct blkpg_ioctl_arg.
type blkpgArgument struct {
	operation, flags, size int32
	data                   *blkpgPartition
}

// announce tells the kernel of a partition that it did not find by itself, or not
// as it is: when it looked, the table was not written yet. operation is
// unix.BLKPG_ADD_PARTITION or unix.BLKPG_RESIZE_PARTITION.
func (d *disk) announce(operation int32, p *gpt.Partition, sectorSize int) error {
	partition := blkpgPartition{
		start:  int64(p.Start) * int64(sectorSize),
		length: int64(p.Size),
		number: int32(p.Index),
	}
	argument := blkpgArgument{
		operation: operation,
		size:      int32(unsafe.Sizeof(partition)),
		data:      &partition,
	}
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, d.Fd(), unix.BLKPG, uintptr(unsafe.Pointer(&argument)))
	if errno != 0 {
		return fmt.Errorf("tell the kernel of partition %d of %s: %w", p.Index, d.path, errno)
	}
	return nil
}

// partitionNode returns the device node of a partition, announcing it if need be.
func (d *disk) partitionNode(ctx context.Context, uevents *host.Uevents, root fs.FS, p *gpt.Partition, sectorSize int) (string, error) {
	name := d.partitionName(root, p.Index)
	if name == "" {
		if err := d.announce(unix.BLKPG_ADD_PARTITION, p, sectorSize); err != nil {
			return "", err
		}
	}
	err := uevents.WaitUntil(ctx, func() (bool, error) {
		name = d.partitionName(root, p.Index)
		if name == "" {
			return false, nil
		}
		_, err := os.Stat("/dev/" + name)
		return err == nil, nil
	})
	if err != nil {
		return "", fmt.Errorf("wait for partition %d of %s: %w", p.Index, d.path, err)
	}
	return "/dev/" + name, nil
}

// partitionName is the kernel's name of a partition ("vda1", "nvme0n1p1"), empty
// when it knows none of that number.
func (d *disk) partitionName(root fs.FS, index int) string {
	files, _ := fs.Glob(root, path.Join("sys/class/block", d.name, d.name+"*/partition")) // the pattern is good
	for _, file := range files {
		text, err := fs.ReadFile(root, file)
		if err == nil && strings.TrimSpace(string(text)) == strconv.Itoa(index) {
			return path.Base(path.Dir(file))
		}
	}
	return ""
}
