package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// mediumFile is the installation medium of a machine that was booted over the
// network, which loaded it as a part of the initramfs (images/netboot.go). Its
// memory stays in use for as long as the machine runs from it.
const mediumFile = "medium.img"

// loopModule makes block devices of files.
const loopModule = "loop"

// hasMedium tells whether the initramfs has the installation medium in it.
func hasMedium(root fs.FS) bool {
	_, err := fs.Stat(root, mediumFile)
	return err == nil
}

// attachMedium makes a block device of the medium in the initramfs, so that
// everything after this meets it as it would a CD.
func attachMedium() error {
	medium, err := os.Open("/" + mediumFile)
	if err != nil {
		return err
	}
	defer medium.Close()
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("make a block device of the medium: %w", err)
	}
	defer control.Close()
	number, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
	if err != nil {
		return fmt.Errorf("find a free loop device: %w", err)
	}
	device, err := os.Open("/dev/loop" + strconv.Itoa(number))
	if err != nil {
		return err
	}
	config := unix.LoopConfig{Fd: uint32(medium.Fd())}
	config.Info.Flags = unix.LO_FLAGS_READ_ONLY
	err = unix.IoctlLoopConfigure(int(device.Fd()), &config)
	if err != nil {
		err = fmt.Errorf("make %s a block device: %w", medium.Name(), err)
	}
	return errors.Join(err, device.Close())
}
