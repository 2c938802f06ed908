package storage

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/diskfs/go-diskfs/partition/gpt"

	"github.com/keelson-os/keelson/machined/host"
	"github.com/keelson-os/keelson/pkg/osdisk"
)

// A reset has one moment that decides: when Condemn has written the partition
// table. Before it the node is what it was, after it the next Open makes the
// file systems anew, whatever else happened; what Wipe does is only that nobody
// finds the old data on the disk.

// wiped are the partitions that Condemn, Spare and Wipe are about.
func (o Options) wiped() []osdisk.Partition {
	return slices.DeleteFunc(slices.Clone(fileSystems), func(p osdisk.Partition) bool { return slices.Contains(o.Keep, p.Name) })
}

// CheckWipe tells whether the disk can be wiped: it is there, and the node's or
// blank. It writes nothing.
func CheckWipe(ctx context.Context, options Options) error {
	return withOwnTable(ctx, options, func(*disk, observation) error { return nil })
}

// Condemn makes the next Open begin with empty file systems, but for those of
// Options.Keep. The disk may be in
// use: what is on it stays until then.
func Condemn(ctx context.Context, options Options) error {
	return mark(ctx, options, func(entry *gpt.Partition) { entry.Attributes &^= formatted })
}

// Spare takes Condemn back; the file systems must be whole.
func Spare(ctx context.Context, options Options) error {
	return mark(ctx, options, func(entry *gpt.Partition) { entry.Attributes |= formatted })
}

func mark(ctx context.Context, options Options, change func(*gpt.Partition)) error {
	return withOwnTable(ctx, options, func(d *disk, o observation) error {
		for _, own := range options.wiped() {
			change(own.Find(o.table))
		}
		if err := osdisk.WriteTable(d, o.table, o.size); err != nil {
			return fmt.Errorf("%s: %w", d.path, err)
		}
		return nil
	})
}

// Erasing is how Wipe erases.
type Erasing struct {
	// Overwrite says to write zeros over all of EPHEMERAL: hours on a large disk.
	Overwrite bool
	// Progress is called while a partition is overwritten, each progressStep percent.
	Progress func(partition string, percent int)
}

// progressStep is in percent: what is told goes to the console.
const progressStep = 5

// Wipe condemns the partitions and erases what is on them: all of STATE, and all
// of EPHEMERAL where the disk can discard or how says to overwrite it, else its
// beginning and end. They must be unmounted; one that is not is left to the next
// Open. Blocks of an old journal that are left do no harm to the next file system:
// ext4 seeds their checksums with its UUID.
func Wipe(ctx context.Context, options Options, how Erasing) error {
	if err := Condemn(ctx, options); err != nil {
		return err
	}
	return withOwnTable(ctx, options, func(d *disk, o observation) error {
		var failed []error
		for _, own := range options.wiped() {
			entry := own.Find(o.table)
			name := d.partitionName(options.OS.Root(), entry.Index)
			if name == "" {
				continue // the kernel does not know of it, so that nobody wrote to it
			}
			told := 0
			progress := func(percent int) {
				if how.Progress != nil && how.Overwrite && percent >= told+progressStep {
					told = percent - percent%progressStep
					how.Progress(own.Name, told)
				}
			}
			if err := erase(ctx, "/dev/"+name, how.Overwrite || own.Size != 0, progress); err != nil {
				failed = append(failed, fmt.Errorf("erase %s: %w", own.Name, err))
			}
		}
		return errors.Join(failed...)
	})
}

// withOwnTable calls do with the disk, if its table is the node's. A blank one
// needs nothing done.
func withOwnTable(ctx context.Context, options Options, do func(*disk, observation) error) error {
	setDefaults(&options)
	uevents, err := host.ListenUevents()
	if err != nil {
		return err
	}
	defer uevents.Close()
	appearing, cancel := context.WithTimeout(ctx, options.Deadline)
	defer cancel()
	d, err := openDisk(appearing, uevents, options)
	if err != nil {
		return err
	}
	defer d.Close()
	o, err := d.observe()
	if err != nil {
		return err
	}
	if _, err := decide(d.path, o); err != nil {
		return err
	}
	if o.table == nil {
		return nil
	}
	return do(d, o)
}
