package main

import (
	"context"
	"fmt"
	"io"
	"os"
)

const (
	// mediumFile is the installation medium in the initramfs, where stage 1 looks
	// for it (machined/initramfs).
	mediumFile = "medium.img"
	// netbootRoom is how long the command line may become, in bytes: osctl netboot
	// serve adds where the machine config is. The kernel takes 2,047 bytes
	// (COMMAND_LINE_SIZE).
	netbootRoom = 1024
)

// makeNetboot makes what machines load over the network: an initramfs with the
// installation medium in it, and a unified kernel image with that.
func (b *build) makeNetboot(ctx context.Context) error {
	initrd := b.path("keelson-netboot.initrd")
	inputs := []string{mediumFile}
	for _, f := range []string{"initramfs.cpio.zst", "keelson.iso"} {
		sum, err := b.digest(b.path(f))
		if err != nil {
			return err
		}
		inputs = append(inputs, sum)
	}
	err := b.once("initramfs for network boot", []string{initrd}, inputs, func(partial []string) error {
		return b.writeNetbootInitrd(partial[0])
	})
	if err != nil {
		return err
	}
	return b.uki(ctx, b.path("keelson-netboot.efi"), initrd, netbootRoom)
}

// writeNetbootInitrd appends an archive with the medium to the initramfs. It is
// not compressed: what is in it is already.
func (b *build) writeNetbootInitrd(output string) error {
	f, err := os.Create(output)
	if err != nil {
		return err
	}
	defer f.Close()
	initramfs, err := os.Open(b.path("initramfs.cpio.zst"))
	if err != nil {
		return err
	}
	defer initramfs.Close()
	size, err := io.Copy(f, initramfs)
	if err != nil {
		return err
	}
	// The kernel finds the next archive at a multiple of four bytes
	// (Documentation/driver-api/early-userspace/buffer-format.rst).
	if _, err := f.Write(make([]byte, roundUp(uint64(size), 4)-uint64(size))); err != nil {
		return err
	}
	t := newTree()
	t.file(mediumFile, b.path("keelson.iso"), 0o400)
	if err := t.writeCPIO(f, b.epoch); err != nil {
		return fmt.Errorf("add the medium to the initramfs: %w", err)
	}
	return f.Close()
}
