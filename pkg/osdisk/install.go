package osdisk

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"

	"github.com/diskfs/go-diskfs/backend"
	"github.com/diskfs/go-diskfs/partition/gpt"
)

// Image is an OS image to be installed.
type Image struct {
	// Loader is systemd-boot, Kernel the unified kernel image.
	Loader, Kernel []byte
	// Architecture is theirs, in Go's terms.
	Architecture string
	// Root is the root image with its hash tree, of RootSize bytes.
	Root     io.Reader
	RootSize int64
}

// installed is set among the ESP's attributes once the slot A and everything in
// the ESP is whole and on the disk. UEFI leaves bits 48 to 63 to whoever defines
// the partition type, and firmware ignores them.
const installed = uint64(1) << 56

// IsInstalled tells whether a table that IsOwn is of a disk that an Install was
// finished on.
func IsInstalled(table *gpt.Table) bool { return ESP.Find(table).Attributes&installed != 0 }

// SetInstalled marks a table, for an Install that is finished or that begins.
func SetInstalled(table *gpt.Table, done bool) {
	entry := ESP.Find(table)
	entry.Attributes &^= installed
	if done {
		entry.Attributes |= installed
	}
}

// Sync waits until what was written is on the disk. What is read afterwards
// should come from there and not from memory.
type Sync func() error

// Install writes an image to slot A of a disk that has the table, and the way to
// boot it to the ESP; the caller then marks the table with SetInstalled and
// writes it. An Install that was cut short leaves a disk that the
// firmware does not boot, or that boots the whole image; IsInstalled tells which
// ones have to be begun anew. progress, which may be nil, gets the bytes written
// of those to write.
func Install(disk backend.Storage, table *gpt.Table, image Image, sync Sync, progress func(done, total int64)) error {
	writable, err := disk.Writable()
	if err != nil {
		return err
	}
	first := Entry{Generation: 1, Slot: SlotA}
	esp := []File{
		{"loader/loader.conf", []byte(loaderConfig)},
		{EntriesFolder + "/" + first.FileName(), image.Kernel},
		// Last: without it the firmware finds nothing here.
		{FirmwareProgram(image.Architecture), image.Loader},
	}
	if image.RootSize > int64(RootA.Size) {
		return fmt.Errorf("the root image has %d bytes, and a slot %d", image.RootSize, RootA.Size)
	}
	at := offsetOf(table, RootA)
	if err := CopyVerified(writable, at, image.Root, image.RootSize, sync, progress); err != nil {
		return fmt.Errorf("write the root image: %w", err)
	}
	if err := WriteFAT(disk, offsetOf(table, ESP), int64(ESP.Size), ESP.Name, esp, sync); err != nil {
		return err
	}
	return sync()
}

// offsetOf is where a partition begins, in bytes.
func offsetOf(table *gpt.Table, p Partition) int64 {
	return int64(p.Find(table).Start) * int64(table.LogicalSectorSize)
}

var errReadBack = errors.New("what was written reads back differently: the disk is broken")

// Device is what an image is written to.
type Device interface {
	io.ReaderAt
	io.WriterAt
}

// CopyVerified copies size bytes to a place of a device, waits until they are
// there and compares what it reads back. progress may be nil.
func CopyVerified(disk Device, at int64, from io.Reader, size int64, sync Sync, progress func(done, total int64)) error {
	const step = mebibyte
	written := sha256.New()
	buffer := make([]byte, step)
	for done := int64(0); done < size; {
		n, err := io.ReadFull(from, buffer[:min(step, size-done)])
		if err != nil {
			return fmt.Errorf("read %d bytes, %d are missing: %w", done+int64(n), size-done-int64(n), err)
		}
		written.Write(buffer[:n])
		if _, err := disk.WriteAt(buffer[:n], at+done); err != nil {
			return err
		}
		done += int64(n)
		if progress != nil {
			progress(done, size)
		}
	}
	if err := sync(); err != nil {
		return err
	}
	read := sha256.New()
	if _, err := io.CopyBuffer(read, io.NewSectionReader(disk, at, size), buffer); err != nil {
		return fmt.Errorf("read back: %w", err)
	}
	if !bytes.Equal(read.Sum(nil), written.Sum(nil)) {
		return errReadBack
	}
	return nil
}
