package storage

import (
	"fmt"
	"strings"

	"github.com/diskfs/go-diskfs/partition/gpt"

	"github.com/keelson-os/keelson/pkg/osdisk"
)

const mebibyte = 1 << 20

// plan is what has to be done to a disk before it can be mounted.
type plan struct {
	// table to write, nil when the one on the disk is good.
	table *gpt.Table
	// format lists the partitions that need a file system, by name.
	format []string
	// grown tells that the last partition became larger than the kernel knows.
	grown bool
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
	if o.size < osdisk.MinSize {
		return plan{}, fmt.Errorf("the disk %s has %d MiB: machine.install.disk needs at least %d MiB", path, o.size/mebibyte, osdisk.MinSize/mebibyte)
	}
	switch {
	case o.table == nil && o.blank:
		return plan{table: osdisk.NewTable(o.size, o.sectorSize), format: []string{osdisk.State.Name, osdisk.Ephemeral.Name}}, nil
	case o.table == nil:
		return plan{}, &ForeignDataError{path, o.content}
	case !osdisk.IsOwn(o.table):
		return plan{}, &ForeignDataError{path, describe(o.table)}
	}
	var p plan
	// Without the MBR, or with only the backup table, writing it was cut short.
	if o.table.RecoveredFromBackup || !o.mbr {
		p.table = o.table
	}
	if osdisk.Grow(o.table, o.size, o.sectorSize) {
		p.table, p.grown = o.table, true
	}
	for _, own := range fileSystems {
		if own.Find(o.table).Attributes&formatted == 0 {
			p.format = append(p.format, own.Name)
		}
	}
	return p, nil
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
