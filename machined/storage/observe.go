package storage

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"unicode/utf16"

	"github.com/diskfs/go-diskfs/backend"
	"github.com/diskfs/go-diskfs/partition/gpt"

	"github.com/keelson-os/keelson/pkg/osdisk"
)

// observation is what was found on a disk.
type observation struct {
	size       uint64 // bytes
	sectorSize int
	// table is the GPT, nil when there is none.
	table *gpt.Table
	// mbr tells whether the protective MBR is there, which is written last.
	mbr bool
	// blank: nothing is in the first and the last MiB but, at most, what an
	// interrupted first partitioning left.
	blank bool
	// content names what was recognized, when there is no table.
	content string
}

// observe looks at a disk without writing to it.
func observe(disk backend.File, size uint64, sectorSize int) (observation, error) {
	o := observation{size: size, sectorSize: sectorSize}
	if size < 4*mebibyte {
		return o, nil // too small for the tables' places; plan refuses it
	}
	head, tail := make([]byte, mebibyte), make([]byte, mebibyte)
	if _, err := disk.ReadAt(head, 0); err != nil {
		return o, fmt.Errorf("read the disk's start: %w", err)
	}
	if _, err := disk.ReadAt(tail, int64(size)-mebibyte); err != nil && !errors.Is(err, io.EOF) {
		return o, fmt.Errorf("read the disk's end: %w", err)
	}
	sectors := size / uint64(sectorSize)
	backup := tail[mebibyte-sectorSize:]
	headEmpty := allZero(withoutOwnArray(head, 2*sectorSize))
	if osdisk.SaneHeader(head[sectorSize:], sectors) && osdisk.HarmlessBackup(backup, sectors) || (headEmpty && osdisk.SaneHeader(backup, sectors)) {
		table, err := gpt.Read(disk, sectorSize, sectorSize)
		if err != nil {
			o.content = fmt.Sprintf("a damaged GPT (%v)", err)
		}
		o.table = table
		// Package gpt looks for the signature at the end of a sector, which is
		// not its place where sectors are larger than 512 bytes.
		o.mbr = bytes.Equal(head[510:512], []byte{0x55, 0xaa})
		return o, nil
	}
	o.blank = headEmpty && allZero(withoutOwnArray(tail, mebibyte-sectorSize-arraySize))
	if !o.blank {
		o.content = recognize(head)
	}
	return o, nil
}

// arraySize is what the partition entries take, in bytes.
const arraySize = 128 * gpt.PartitionEntrySize

// withoutOwnArray returns the region with our partitions' entries blanked, if
// they are at the offset. A power cut during the first partitioning can leave
// them without a header, which is written after them.
func withoutOwnArray(region []byte, offset int) []byte {
	for i, p := range osdisk.Layout {
		const nameAt = 56
		name := region[offset+i*gpt.PartitionEntrySize+nameAt:]
		if !bytes.HasPrefix(name, utf16Bytes(p.Name+"\x00")) {
			return region
		}
	}
	region = bytes.Clone(region)
	clear(region[offset : offset+arraySize])
	return region
}

func utf16Bytes(s string) []byte {
	var b []byte
	for _, unit := range utf16.Encode([]rune(s)) {
		b = binary.LittleEndian.AppendUint16(b, unit)
	}
	return b
}

func allZero(b []byte) bool { return len(bytes.Trim(b, "\x00")) == 0 }

// signatures are what the usual systems leave on a disk, most telling first.
var signatures = []struct {
	offset int
	magic  string
	name   string
}{
	{0x218, "LVM2 001", "an LVM volume"},
	{0, "LUKS\xba\xbe", "an encrypted LUKS volume"},
	{0, "hsqs", "a squashfs file system"},
	{0x438, "\x53\xef", "an ext2, ext3 or ext4 file system"},
	{0, "XFSB", "an XFS file system"},
	{0x10040, "_BHRfS_M", "a Btrfs file system"},
	{0x1000, "\xfc\x4e\x2b\xa9", "a member of a RAID"},
	{0x8001, "CD001", "an ISO 9660 image"},
	{4086, "SWAPSPACE2", "swap space"},
	{3, "NTFS", "an NTFS file system"},
	{0x52, "FAT32", "a FAT file system"},
	{0x36, "FAT1", "a FAT file system"},
	{0x200, "EFI PART", "a damaged GPT"},
	{0x1000, "EFI PART", "a damaged GPT"},
	{0x1fe, "\x55\xaa", "an MBR partition table"},
}

// recognize names what is on a disk by its first MiB.
func recognize(head []byte) string {
	for _, s := range signatures {
		if bytes.HasPrefix(head[s.offset:], []byte(s.magic)) {
			return s.name
		}
	}
	return "data of an unknown kind"
}
