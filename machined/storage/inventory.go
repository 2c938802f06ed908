package storage

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"strconv"
	"strings"

	"github.com/keelson-os/keelson/pkg/machineconfig"
)

// noDisk matches block devices that are made of others, or that hold media.
var noDisk = regexp.MustCompile(`^(dm-|loop|ram|zram|sr|md|nbd|fd|mtdblock)`)

// ListDisks lists the disks that a node could be installed on, as sysfs tells:
// all but the medium that it was booted from, by the kernel's name, if any.
func ListDisks(root fs.FS, medium string) ([]machineconfig.Disk, error) {
	entries, err := fs.ReadDir(root, "sys/block")
	if err != nil {
		return nil, fmt.Errorf("list the disks: %w", err)
	}
	var disks []machineconfig.Disk
	for _, entry := range entries {
		name := entry.Name()
		sectors, err := strconv.ParseUint(attribute(root, name, "size"), 10, 64)
		if name == medium || noDisk.MatchString(name) || err != nil || sectors == 0 || attribute(root, name, "ro") == "1" {
			continue
		}
		disks = append(disks, machineconfig.Disk{
			Path: "/dev/" + strings.ReplaceAll(name, "!", "/"), Size: sectors * 512,
			Model:      attribute(root, name, "device/model"),
			Serial:     serial(root, name),
			WWN:        attribute(root, name, "wwid", "device/wwid"),
			Transport:  transport(root, name),
			Rotational: attribute(root, name, "queue/rotational") == "1",
		})
	}
	return disks, nil
}

// attribute is the first of a disk's files in sysfs that holds something.
func attribute(root fs.FS, disk string, files ...string) string {
	for _, file := range files {
		text, err := fs.ReadFile(root, path.Join("sys/block", disk, file))
		if value := strings.TrimSpace(string(text)); err == nil && value != "" {
			return value
		}
	}
	return ""
}

// serial is a disk's serial number: SCSI disks have it in a page of four bytes
// and the number (SPC, "unit serial number page").
func serial(root fs.FS, disk string) string {
	if value := attribute(root, disk, "serial", "device/serial"); value != "" {
		return value
	}
	vital, err := fs.ReadFile(root, path.Join("sys/block", disk, "device/vpd_pg80"))
	const header = 4
	if err != nil || len(vital) < header {
		return ""
	}
	return strings.TrimSpace(strings.Trim(string(vital[header:]), "\x00"))
}

// transport is how a disk is attached, by its name and its place in the tree of
// devices.
func transport(root fs.FS, disk string) string {
	for prefix, name := range map[string]string{"nvme": "nvme", "vd": "virtio", "mmcblk": "mmc"} {
		if strings.HasPrefix(disk, prefix) {
			return name
		}
	}
	place, err := fs.ReadLink(root, path.Join("sys/block", disk))
	if err != nil {
		return ""
	}
	for _, known := range []struct{ part, name string }{{"/usb", "usb"}, {"/ata", "sata"}, {"/end_device-", "sas"}, {"/virtio", "virtio"}} {
		if strings.Contains(place, known.part) {
			return known.name
		}
	}
	return "scsi"
}

// errNoMatch says that no disk is the one that is meant; there may be one later.
var errNoMatch = errors.New("no disk fits machine.install.diskSelector")

// choose finds the one disk that a selector means.
func choose(disks []machineconfig.Disk, selector *machineconfig.DiskSelector) (machineconfig.Disk, error) {
	var fitting []machineconfig.Disk
	var others []string
	for _, disk := range disks {
		if why := selector.Mismatch(disk); why != "" {
			others = append(others, disk.Path+": "+why)
		} else {
			fitting = append(fitting, disk)
		}
	}
	switch len(fitting) {
	case 1:
		return fitting[0], nil
	case 0:
		if len(others) == 0 {
			others = []string{"there is none; its driver may be missing"}
		}
		return machineconfig.Disk{}, fmt.Errorf("%w: %s", errNoMatch, strings.Join(others, "; "))
	}
	var list []string
	for _, disk := range fitting {
		list = append(list, Describe(disk))
	}
	return machineconfig.Disk{}, fmt.Errorf("machine.install.diskSelector fits %d disks: %s: name more of what the right one has", len(fitting), strings.Join(list, "; "))
}

// Describe names a disk for people.
func Describe(d machineconfig.Disk) string {
	text := fmt.Sprintf("%s (%d MiB", d.Path, d.Size/mebibyte)
	for _, more := range []struct{ name, value string }{{"", d.Transport}, {"", d.Model}, {"serial ", d.Serial}, {"WWN ", d.WWN}} {
		if more.value != "" {
			text += ", " + more.name + more.value
		}
	}
	if d.Rotational {
		text += ", rotational"
	}
	return text + ")"
}
