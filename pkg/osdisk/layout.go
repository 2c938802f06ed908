package osdisk

import (
	"fmt"
	"strings"

	"github.com/diskfs/go-diskfs/backend"
	"github.com/diskfs/go-diskfs/partition/gpt"
)

// Partition is one of a node's own.
type Partition struct {
	// Name is the GPT partition's and the file system's.
	Name string
	// Type is the partition type: but for the ESP's a random one, so that no
	// other system's partition of the same name is taken for the node's.
	Type gpt.Type
	// Size in bytes; zero means all that is left.
	Size uint64
}

const (
	mebibyte = 1 << 20
	gibibyte = 1 << 30
	// align is what every disk's erase blocks and stripes divide.
	align = mebibyte
	// MinSize in bytes leaves room for the images of a few workloads.
	MinSize = 4 * gibibyte
)

// slotType is that of both slots: what tells them apart is their name.
const slotType = gpt.Type("8A5D7CE6-0B3C-4A0E-9C29-5F6C1C4A9F52")

// The partitions. An image has room to grow to eight times its size, and the ESP
// has room for as many kernels.
var (
	// ESP holds the boot loader and each slot's kernel. UEFI finds it by its type.
	ESP = Partition{"ESP", gpt.EFISystemPartition, 512 * mebibyte}
	// RootA and RootB are the slots: each holds a root image with its hash tree.
	RootA = Partition{"ROOT-A", slotType, gibibyte}
	RootB = Partition{"ROOT-B", slotType, gibibyte}
	// Meta remembers what the slots went through.
	Meta = Partition{"META", "3B0F6A0C-54B1-4E0B-8D5E-2B4D1C3C7A11", mebibyte}
	// State is the node's config and identity.
	State = Partition{"STATE", "EFFD82B9-931A-4224-943F-CB712AF9C143", 256 * mebibyte}
	// Ephemeral is /var: containers, etcd, logs.
	Ephemeral = Partition{"EPHEMERAL", "4BC66E4B-D9D0-4211-9387-9C9811DE1386", 0}
)

// Layout lists the partitions in the order they are on the disk.
var Layout = []Partition{ESP, RootA, RootB, Meta, State, Ephemeral}

// NewTable lays the partitions out on a disk of the given size in bytes, which
// is at least MinSize.
func NewTable(size uint64, sectorSize int) *gpt.Table {
	sector := uint64(sectorSize)
	start := uint64(align)
	end := endOfUse(size, sector)
	table := &gpt.Table{LogicalSectorSize: sectorSize, PhysicalSectorSize: sectorSize}
	for i, p := range Layout {
		length := p.Size
		if length == 0 {
			length = end - start
		}
		table.Partitions = append(table.Partitions, &gpt.Partition{
			Index: i + 1,
			Start: start / sector,
			End:   (start+length)/sector - 1,
			Size:  length,
			Type:  p.Type,
			Name:  p.Name,
		})
		start += length
	}
	return table
}

// endOfUse is where the last partition of a disk ends, in bytes: the backup table
// takes 33 sectors behind it.
func endOfUse(size, sector uint64) uint64 { return (size - 34*sector) / align * align }

// Grow makes a table that IsOwn fit a disk that became larger, and gives the
// last of the node's partitions what there is more, unless another one is behind
// it. It tells whether that made a difference.
func Grow(table *gpt.Table, size uint64, sectorSize int) bool {
	sector := uint64(sectorSize)
	last, end := Ephemeral.Find(table), endOfUse(size, sector)/sector-1
	for _, entry := range table.Partitions {
		if entry.Start > last.Start {
			return false
		}
	}
	if end <= last.End {
		return false
	}
	last.End, last.Size = end, (end-last.Start+1)*sector
	table.Resize(size)
	return true
}

// WriteTable writes and flushes both copies of the table and then, only when they
// are on the disk, the protective MBR: its absence tells of an interrupted
// attempt. size is the disk's, in bytes.
func WriteTable(disk backend.WritableFile, table *gpt.Table, size uint64) error {
	for _, complete := range []bool{false, true} {
		table.ProtectiveMBR = complete
		if err := table.Write(disk, int64(size)); err != nil {
			return fmt.Errorf("write the partition table: %w", err)
		}
	}
	return nil
}

// IsOwn tells whether a table has each of the node's partitions once. Others
// beside them do no harm.
func IsOwn(table *gpt.Table) bool {
	for _, own := range Layout {
		count := 0
		for _, entry := range table.Partitions {
			if own.is(entry) {
				count++
			}
		}
		if count != 1 {
			return false
		}
	}
	return true
}

// Find returns the partition's entry in a table that IsOwn; it panics if there
// is none.
func (p Partition) Find(table *gpt.Table) *gpt.Partition {
	for _, entry := range table.Partitions {
		if p.is(entry) {
			return entry
		}
	}
	panic("osdisk: find " + p.Name + " in a table that is not the node's")
}

func (p Partition) is(entry *gpt.Partition) bool {
	return entry.Name == p.Name && strings.EqualFold(string(entry.Type), string(p.Type))
}
