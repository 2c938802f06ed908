package storage

import "github.com/diskfs/go-diskfs/partition/gpt"

// partition is one of the node's own, in the order they are on the disk.
type partition struct {
	// name is the GPT partition's and the file system's.
	name string
	// guid is the partition type: a random one, so that no other system's
	// partition of the same name is taken for ours.
	guid gpt.Type
	size uint64 // bytes; zero means all that is left
}

const (
	state     = "STATE"     // config and identity
	ephemeral = "EPHEMERAL" // /var: containers, etcd, logs

	mebibyte = 1 << 20
	gibibyte = 1 << 30
	// align is what every disk's erase blocks and stripes divide.
	align = mebibyte
	// minDisk leaves room for the images of a few workloads.
	minDisk = 2 * gibibyte
)

var layout = []partition{
	{state, "EFFD82B9-931A-4224-943F-CB712AF9C143", 256 * mebibyte},
	{ephemeral, "4BC66E4B-D9D0-4211-9387-9C9811DE1386", 0},
}

// formatted is set among a partition's attributes once its file system is whole
// and on the disk: a power cut during the first format leaves it unset. UEFI
// leaves bits 48 to 63 to whoever defines the partition type.
const formatted = uint64(1) << 56

// newTable lays the partitions out on a disk of the given size in bytes.
func newTable(size uint64, sectorSize int) *gpt.Table {
	sector := uint64(sectorSize)
	start := uint64(align)
	// The backup table takes 33 sectors at the end.
	end := (size - 34*sector) / align * align
	table := &gpt.Table{LogicalSectorSize: sectorSize, PhysicalSectorSize: sectorSize}
	for i, p := range layout {
		length := p.size
		if length == 0 {
			length = end - start
		}
		table.Partitions = append(table.Partitions, &gpt.Partition{
			Index: i + 1,
			Start: start / sector,
			End:   (start+length)/sector - 1,
			Size:  length,
			Type:  p.guid,
			Name:  p.name,
		})
		start += length
	}
	return table
}
