package osdisk

import (
	"bytes"
	"encoding/binary"
	"errors"
	"strings"

	"github.com/diskfs/go-diskfs/backend"
	"github.com/diskfs/go-diskfs/partition/gpt"
)

// MediumSector is the unit, in bytes, in the table of an installation medium,
// whatever the sectors of its drive are.
const MediumSector = 512

// ErrNoTable says that a disk has no GPT at its beginning.
var ErrNoTable = errors.New("no GPT")

// ReadTable reads the GPT of a disk that may hold anything, of so many sectors.
func ReadTable(disk backend.File, sectors uint64, sectorSize int) (*gpt.Table, error) {
	header := make([]byte, sectorSize)
	if _, err := disk.ReadAt(header, int64(sectorSize)); err != nil {
		return nil, err
	}
	if !SaneHeader(header, sectors) {
		return nil, ErrNoTable
	}
	backup := make([]byte, sectorSize)
	// The end of a CD often cannot be read.
	if _, err := disk.ReadAt(backup, int64(sectors-1)*int64(sectorSize)); err == nil && !HarmlessBackup(backup, sectors) {
		return nil, ErrNoTable
	}
	return gpt.Read(disk, sectorSize, sectorSize)
}

// SaneHeader tells whether a GPT header may be given to package gpt, which
// allocates what the header asks for.
func SaneHeader(header []byte, sectors uint64) bool {
	if !bytes.HasPrefix(header, []byte("EFI PART")) {
		return false
	}
	array := binary.LittleEndian.Uint64(header[72:])
	entries, size := binary.LittleEndian.Uint32(header[80:]), binary.LittleEndian.Uint32(header[84:])
	// UEFI: at least 16 KiB of entries, and 128 bytes each on all systems known.
	return array < sectors && entries <= 1024 && size == gpt.PartitionEntrySize
}

// HarmlessBackup tells whether the last sector of a disk, which package gpt reads
// where the table at the beginning is damaged, is no header or a sane one.
func HarmlessBackup(sector []byte, sectors uint64) bool {
	return !bytes.HasPrefix(sector, []byte("EFI PART")) || SaneHeader(sector, sectors)
}

// RootImages returns where a medium's table has root images.
func RootImages(table *gpt.Table) (images []*gpt.Partition) {
	for _, entry := range table.Partitions {
		if strings.EqualFold(string(entry.Type), string(slotType)) {
			images = append(images, entry)
		}
	}
	return images
}
