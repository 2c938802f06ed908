package main

import (
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"github.com/keelson-os/keelson/pkg/uki"
)

// errNoKexec says that a node has no kernel of its own to start.
var errNoKexec = errors.New("this node was not installed, so that its kernel is not on its disk: restart it without --kexec")

// errKexecOff says that the kernel was told to start no other.
var errKexecOff = errors.New(`kexec is switched off on this node, so that a verified boot stays one: set machine.kernel.sysctls "kernel.kexec_load_disabled" to "0" in its config, and restart it once without --kexec`)

// errKexecMissing says that the kernel cannot start another one from a file, as
// those of Debian's that are for arm64.
var errKexecMissing = errors.New("this node's kernel cannot start another one: restart it without --kexec")

// loadKexec has the kernel start the next boot's one by itself: that of the entry
// that the boot loader would take. It may be called again.
func (n *node) loadKexec() error {
	slots := n.slots.Load()
	if slots == nil {
		return errNoKexec
	}
	n.kexecOff.Store(false)
	return slots.Next(func(file *os.File) error {
		info, err := file.Stat()
		if err != nil {
			return err
		}
		image, err := uki.Read(file, info.Size())
		if err != nil {
			return fmt.Errorf("read the next kernel image: %w", err)
		}
		kernel, err := inMemory("kernel", image.Kernel)
		if err != nil {
			return err
		}
		defer kernel.Close()
		initrd, err := inMemory("initrd", image.Initrd)
		if err != nil {
			return err
		}
		defer initrd.Close()
		err = n.os.LoadKexec(kernel, initrd, image.CommandLine)
		switch {
		case errors.Is(err, unix.EPERM):
			return errKexecOff
		case errors.Is(err, unix.ENOSYS):
			return errKexecMissing
		}
		return err
	})
}

// inMemory copies a part of a file to one of its own.
func inMemory(name string, from io.Reader) (*os.File, error) {
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("make a file in memory: %w", err)
	}
	file := os.NewFile(uintptr(fd), name)
	if _, err := io.Copy(file, from); err != nil {
		return nil, errors.Join(fmt.Errorf("copy the %s: %w", name, err), file.Close())
	}
	return file, nil
}
