package osdisk

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/diskfs/go-diskfs/backend"
)

// fatVolume is where the parts of a FAT16 or FAT32 file system are, in bytes from
// the disk's beginning (Microsoft's FAT specification, the BPB).
type fatVolume struct {
	disk        backend.WritableFile
	fat, data   int64
	cluster     int64
	wide        bool // FAT32, with four bytes for a cluster instead of two
	rootAt      int64
	rootSize    int64 // zero if the root folder is a chain of clusters, too
	rootCluster uint32
}

// The entries of a folder: 32 bytes each.
const (
	dirEntrySize  = 32
	attributeAt   = 11
	attributeName = 0x0f // part of a long name
	attributeDir  = 0x10
	deletedEntry  = 0xe5
	clusterHighAt = 20
	clusterLowAt  = 26
	// maxFolders bounds what a damaged file system can cost.
	maxFolders = 1 << 12
)

// fatEpoch is the first date that FAT knows, 1980-01-01, as it writes it: what
// everything bears, so that the bytes do not tell when they were written.
const fatEpoch = 1<<5 | 1

// settleTimes gives everything in a FAT file system at offset the date fatEpoch:
// the library that makes it sets those of the label and of the folders' entries
// for themselves to the present, and has no way to change them.
func settleTimes(disk backend.Storage, offset int64) error {
	to, err := disk.Writable()
	if err != nil {
		return err
	}
	v, err := openVolume(to, offset)
	if err != nil {
		return err
	}
	folders := 0
	var visit func(at, size int64) error
	follow := func(cluster uint32) error {
		for ; cluster >= 2 && !v.last(cluster); folders++ {
			if folders > maxFolders {
				return errors.New("its folders have no end")
			}
			if err := visit(v.data+int64(cluster-2)*v.cluster, v.cluster); err != nil {
				return err
			}
			if cluster, err = v.next(cluster); err != nil {
				return err
			}
		}
		return nil
	}
	visit = func(at, size int64) error {
		entries := make([]byte, size)
		if _, err := to.ReadAt(entries, at); err != nil {
			return err
		}
		var below []uint32
		for e := entries; len(e) >= dirEntrySize && e[0] != 0; e = e[dirEntrySize:] {
			if e[0] == deletedEntry || e[attributeAt] == attributeName {
				continue
			}
			settleEntry(e)
			if e[attributeAt]&attributeDir != 0 && e[0] != '.' {
				below = append(below, uint32(binary.LittleEndian.Uint16(e[clusterHighAt:]))<<16|uint32(binary.LittleEndian.Uint16(e[clusterLowAt:])))
			}
		}
		if _, err := to.WriteAt(entries, at); err != nil {
			return err
		}
		for _, cluster := range below {
			if err := follow(cluster); err != nil {
				return err
			}
		}
		return nil
	}
	if v.rootSize > 0 {
		return visit(v.rootAt, v.rootSize)
	}
	return follow(v.rootCluster)
}

// settleEntry sets an entry's times: of its making, its last use and its change.
func settleEntry(e []byte) {
	const madeAt, usedAt, changedAt = 13, 18, 22
	e[madeAt] = 0
	binary.LittleEndian.PutUint16(e[madeAt+1:], 0)
	binary.LittleEndian.PutUint16(e[madeAt+3:], fatEpoch)
	binary.LittleEndian.PutUint16(e[usedAt:], fatEpoch)
	binary.LittleEndian.PutUint16(e[changedAt:], 0)
	binary.LittleEndian.PutUint16(e[changedAt+2:], fatEpoch)
}

func openVolume(disk backend.WritableFile, offset int64) (*fatVolume, error) {
	boot := make([]byte, sectorFAT)
	if _, err := disk.ReadAt(boot, offset); err != nil {
		return nil, fmt.Errorf("read the boot sector: %w", err)
	}
	sector := int64(binary.LittleEndian.Uint16(boot[11:]))
	perCluster, reserved, fats := int64(boot[13]), int64(binary.LittleEndian.Uint16(boot[14:])), int64(boot[16])
	rootEntries, perFAT := int64(binary.LittleEndian.Uint16(boot[17:])), int64(binary.LittleEndian.Uint16(boot[22:]))
	if sector == 0 || perCluster == 0 {
		return nil, errors.New("it has no boot sector of FAT")
	}
	v := &fatVolume{disk: disk, cluster: perCluster * sector, fat: offset + reserved*sector, wide: perFAT == 0}
	if v.wide {
		perFAT = int64(binary.LittleEndian.Uint32(boot[36:]))
		v.rootCluster = binary.LittleEndian.Uint32(boot[44:])
	}
	v.rootAt, v.rootSize = v.fat+fats*perFAT*sector, rootEntries*dirEntrySize
	v.data = v.rootAt + (v.rootSize+sector-1)/sector*sector
	return v, nil
}

// last tells whether a value of the FAT ends a chain.
func (v *fatVolume) last(cluster uint32) bool {
	if v.wide {
		return cluster >= 0x0ffffff8
	}
	return cluster >= 0xfff8
}

// next is the cluster that follows one.
func (v *fatVolume) next(cluster uint32) (uint32, error) {
	var value [4]byte
	if v.wide {
		_, err := v.disk.ReadAt(value[:], v.fat+4*int64(cluster))
		return binary.LittleEndian.Uint32(value[:]) & 0x0fffffff, err
	}
	_, err := v.disk.ReadAt(value[:2], v.fat+2*int64(cluster))
	return binary.LittleEndian.Uint32(value[:]), err
}
