package storage

import (
	"fmt"
	"strings"

	"github.com/diskfs/go-diskfs/partition/gpt"
)

// plan is what has to be done to a disk before it can be mounted.
type plan struct {
	// table to write, nil when the one on the disk is good.
	table *gpt.Table
	// format lists the partitions that need a file system, by name.
	format []string
}

// ForeignDataError says that the disk holds something that is not the node's.
// Nothing was written.
type ForeignDataError struct {
	Disk  string
	Found string
}

func (e *ForeignDataError) Error() string {
	return fmt.Sprintf("the disk %s holds %s: set machine.install.disk to an empty disk, or erase this one on another system (wipefs --all %s)",
		e.Disk, e.Found, e.Disk)
}

// decide plans for what was found on the disk called path.
func decide(path string, o observation) (plan, error) {
	if o.size < minDisk {
		return plan{}, fmt.Errorf("the disk %s has %d MiB: machine.install.disk needs at least %d MiB", path, o.size/mebibyte, minDisk/mebibyte)
	}
	switch {
	case o.table == nil && o.blank:
		return plan{table: newTable(o.size, o.sectorSize), format: []string{state, ephemeral}}, nil
	case o.table == nil:
		return plan{}, &ForeignDataError{path, o.content}
	case !isOurs(o.table):
		return plan{}, &ForeignDataError{path, describe(o.table)}
	}
	var p plan
	// Without the MBR, or with only the backup table, writing it was cut short.
	if o.table.RecoveredFromBackup || !o.mbr {
		p.table = o.table
	}
	for _, own := range layout {
		if find(o.table, own).Attributes&formatted == 0 {
			p.format = append(p.format, own.name)
		}
	}
	return p, nil
}

// isOurs tells whether a table has each of our partitions once. Others beside
// them do no harm.
func isOurs(table *gpt.Table) bool {
	for _, own := range layout {
		count := 0
		for _, p := range table.Partitions {
			if isPartition(p, own) {
				count++
			}
		}
		if count != 1 {
			return false
		}
	}
	return true
}

// find returns our partition in a table that isOurs.
func find(table *gpt.Table, own partition) *gpt.Partition {
	for _, p := range table.Partitions {
		if isPartition(p, own) {
			return p
		}
	}
	panic("storage: find " + own.name + " in a table that is not ours")
}

func isPartition(p *gpt.Partition, own partition) bool {
	return p.Name == own.name && strings.EqualFold(string(p.Type), string(own.guid))
}

func describe(table *gpt.Table) string {
	if len(table.Partitions) == 0 {
		return "an empty GPT of another system"
	}
	var list []string
	for _, p := range table.Partitions {
		list = append(list, fmt.Sprintf("%d %q of %d MiB", p.Index, p.Name, p.Size/mebibyte))
	}
	return "partitions of another system: " + strings.Join(list, ", ")
}
