package install

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"

	"github.com/keelson-os/keelson/machined/host/verity"
	"github.com/keelson-os/keelson/pkg/osdisk"
)

// Kind is what the root image is on.
type Kind string

const (
	// Given means that the machine's owner gave it kernel and root image, as QEMU
	// does: there is nothing to be installed, nor to be updated.
	Given Kind = "given"
	// Installed means that it is in a slot of the node's own disk.
	Installed Kind = "installed"
	// Medium means that it is on an installation medium.
	Medium Kind = "medium"
)

// Source is where the running root image is.
type Source struct {
	Kind Kind
	// Device is the whole disk or drive, by the kernel's name: "vda", "sr0".
	Device string
	// Slot is set on an installed node.
	Slot osdisk.Slot
}

// Find asks the kernel what the root image is on.
func Find(root fs.FS) (Source, error) {
	mapped, err := mappedDevice(root, verity.RootDevice)
	if err != nil {
		return Source{}, err
	}
	below, err := slaveOf(root, mapped)
	if err != nil {
		return Source{}, err
	}
	if medium, err := mappedDevice(root, verity.MediumDevice); err == nil && medium == below {
		drive, err := slaveOf(root, medium)
		return Source{Kind: Medium, Device: drive}, err
	}
	disk, name := partitionOf(root, below)
	switch {
	case disk == "":
		return Source{Kind: Given, Device: below}, nil
	case name == osdisk.RootA.Name:
		return Source{Kind: Installed, Device: disk, Slot: osdisk.SlotA}, nil
	case name == osdisk.RootB.Name:
		return Source{Kind: Installed, Device: disk, Slot: osdisk.SlotB}, nil
	}
	return Source{Kind: Medium, Device: disk}, nil
}

// mappedDevice finds a device-mapper device ("dm-0") by the name it was given.
func mappedDevice(root fs.FS, name string) (string, error) {
	files, _ := fs.Glob(root, "sys/block/dm-*/dm/name") // the pattern is good
	for _, file := range files {
		text, err := fs.ReadFile(root, file)
		if err == nil && strings.TrimSpace(string(text)) == name {
			return path.Base(path.Dir(path.Dir(file))), nil
		}
	}
	return "", fmt.Errorf("no device-mapper device is called %s: this node was not booted by Keelson's initramfs", name)
}

// slaveOf is the one device that a device-mapper device is made of.
func slaveOf(root fs.FS, device string) (string, error) {
	slaves, err := fs.ReadDir(root, path.Join("sys/block", device, "slaves"))
	if err != nil {
		return "", fmt.Errorf("ask what %s is made of: %w", device, err)
	}
	if len(slaves) != 1 {
		return "", fmt.Errorf("%s is made of %d devices", device, len(slaves))
	}
	return slaves[0].Name(), nil
}

// partitionOf returns the disk that a partition is on, and the partition's name;
// nothing if it is none.
func partitionOf(root fs.FS, partition string) (disk, name string) {
	uevent, err := fs.ReadFile(root, path.Join("sys/class/block", partition, "uevent"))
	if err != nil {
		return "", ""
	}
	for line := range strings.Lines(string(uevent)) {
		if value, ok := strings.CutPrefix(strings.TrimSpace(line), "PARTNAME="); ok {
			name = value
		}
	}
	found, _ := fs.Glob(root, path.Join("sys/block/*", partition, "partition")) // the pattern is good
	if len(found) == 0 {
		return "", ""
	}
	return path.Base(path.Dir(path.Dir(found[0]))), name
}

// ErrNoMedium says that a node was not booted from a medium.
var ErrNoMedium = errors.New("the node was not booted from an installation medium")
