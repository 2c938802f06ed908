package main

import (
	"context"
	"fmt"
	"os"

	"github.com/diskfs/go-diskfs/backend/file"
	"github.com/diskfs/go-diskfs/partition/gpt"

	"github.com/keelson-os/keelson/pkg/osdisk"
)

// diskImageGUID is that of the table of every disk image; a table's partitions
// count on from it. Fixed, it keeps two builds identical.
const diskImageGUID = "6B65656C-736F-4E64-8973-%012X"

// makeDisk makes an installed disk, raw and as qcow2. It has the smallest size:
// a node makes use of what more a disk has.
func (b *build) makeDisk(ctx context.Context) error {
	outputs := []string{b.path("keelson.raw"), b.path("keelson.qcow2")}
	loader := b.loader()
	var inputs []string
	for _, f := range []string{loader, b.path("keelson.efi"), b.path("rootfs.img")} {
		sum, err := b.digest(f)
		if err != nil {
			return err
		}
		inputs = append(inputs, sum)
	}
	layout, err := b.sourceDigest("pkg/osdisk")
	if err != nil {
		return err
	}
	return b.once("disk images", outputs, append(inputs, layout), func(partial []string) error {
		if err := b.writeDisk(partial[0], loader); err != nil {
			return err
		}
		_, err := command(ctx, "", "qemu-img", "convert", "-O", "qcow2", "-c", partial[0], partial[1])
		return err
	})
}

func (b *build) writeDisk(output, loader string) error {
	disk, err := os.Create(output)
	if err != nil {
		return err
	}
	defer disk.Close()
	if err := disk.Truncate(osdisk.MinSize); err != nil {
		return err
	}
	image := osdisk.Image{Architecture: b.arch.name}
	if image.Loader, err = os.ReadFile(loader); err != nil {
		return err
	}
	if image.Kernel, err = os.ReadFile(b.path("keelson.efi")); err != nil {
		return err
	}
	root, err := os.Open(b.path("rootfs.img"))
	if err != nil {
		return err
	}
	defer root.Close()
	info, err := root.Stat()
	if err != nil {
		return err
	}
	image.Root, image.RootSize = root, info.Size()
	table := osdisk.NewTable(osdisk.MinSize, 512)
	nameTable(table)
	if err := osdisk.Install(file.New(disk, false), table, image, func() error { return nil }, nil); err != nil {
		return err
	}
	osdisk.SetInstalled(table, true)
	if err := osdisk.WriteTable(disk, table, osdisk.MinSize); err != nil {
		return err
	}
	return disk.Close()
}

// nameTable gives a table and its partitions fixed GUIDs.
func nameTable(table *gpt.Table) {
	table.GUID = fmt.Sprintf(diskImageGUID, 0)
	for _, p := range table.Partitions {
		p.GUID = fmt.Sprintf(diskImageGUID, p.Index)
	}
}
