package storage

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/diskfs/go-diskfs/backend/file"
	"github.com/diskfs/go-diskfs/partition/gpt"
	"golang.org/x/sys/unix"

	"github.com/keelson-os/keelson/machined/host"
	"github.com/keelson-os/keelson/pkg/osdisk"
)

// configFile is below the STATE mount: the machine config that a node was
// installed with.
const configFile = "config.yaml"

// Installation is what Install does.
type Installation struct {
	Image osdisk.Image
	// Config is the machine config as it is kept on STATE.
	Config []byte
	// Wipe erases what the disk holds. Repair writes the image anew to a disk that
	// has a node's system, and keeps the node's data. At most one of them is set.
	Wipe, Repair bool
	// Replaces, if set, is asked before a disk is wiped that a node was installed on,
	// with the config that the node was installed with. It guards a node from a medium
	// that was left in, or a boot server: without it whoever asks knows the disk.
	Replaces func(kept []byte) error
	// Chosen, if set, gets the disk's device node before anything is written.
	Chosen func(disk string)
	// Progress, if set, gets the bytes of the root image written, and all of them.
	Progress func(done, total int64)
}

// InstalledError says that the disk has an operating system of Keelson's.
// Nothing was written.
type InstalledError struct{ Disk string }

func (e *InstalledError) Error() string {
	return fmt.Sprintf("Keelson is installed on %s: remove the installation medium and restart, or write the system anew and keep the node's data "+
		"(osctl install --repair --config FILE); osctl reset erases the data, and machine.install.wipe all that is of another cluster", e.Disk)
}

// decideInstall plans an installation on what was found on the disk called path.
// A disk whose installation was cut short is taken up again, and keeps a node's
// data; fresh tells that everything on it goes.
func decideInstall(path string, o observation, what Installation) (table *gpt.Table, fresh bool, err error) {
	empty := o.table == nil && o.blank
	switch _, err := decide(path, o); {
	case o.size < osdisk.MinSize:
		return nil, false, err
	case what.Repair && empty:
		return nil, false, fmt.Errorf("%s is empty: there is nothing to repair", path)
	case what.Wipe || empty:
		return osdisk.NewTable(o.size, o.sectorSize), true, nil
	case err != nil:
		return nil, false, err
	case osdisk.IsInstalled(o.table) && !what.Repair:
		return nil, false, &InstalledError{path}
	}
	return o.table, false, nil
}

// Install puts an image on the disk, with the config on STATE. Until its last
// step the disk is not booted, or, cut short there, boots the whole image.
func Install(ctx context.Context, options Options, what Installation) error {
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
	table, fresh, err := decideInstall(d.path, o, what)
	if err != nil {
		return err
	}
	if fresh && what.Replaces != nil {
		switch err := d.checkReplaced(ctx, options, o, what.Replaces); {
		case err == nil:
		case osdisk.IsInstalled(o.table):
			return err
		default: // an installation or a repair of this node was cut short: it goes on
			table, fresh = o.table, false
		}
	}
	if err := d.checkUnused(); err != nil {
		return err
	}
	if what.Chosen != nil {
		what.Chosen(d.path)
	}
	if fresh {
		if err := d.clear(o); err != nil {
			return err
		}
	}
	// What it remembers of updates is of images that are overwritten.
	if err := d.clearMeta(table); err != nil {
		return err
	}
	osdisk.SetInstalled(table, false)
	if err := osdisk.WriteTable(d, table, o.size); err != nil {
		return fmt.Errorf("%s: %w", d.path, err)
	}
	if err := d.reread(); err != nil {
		return err
	}
	working, cancel := context.WithTimeout(ctx, workDeadline)
	defer cancel()
	if err := d.installState(working, uevents, options, table, o, what.Config); err != nil {
		return err
	}
	if err := osdisk.Install(file.New(d.File, false), table, what.Image, d.flush, what.Progress); err != nil {
		return fmt.Errorf("%s: %w", d.path, err)
	}
	osdisk.SetInstalled(table, true)
	if err := osdisk.WriteTable(d, table, o.size); err != nil {
		return fmt.Errorf("%s: %w", d.path, err)
	}
	return d.flush()
}

// checkReplaced asks whether the node that the disk was installed for may go.
func (d *disk) checkReplaced(ctx context.Context, options Options, o observation, replaces func([]byte) error) error {
	if o.table == nil || !osdisk.IsOwn(o.table) {
		return nil
	}
	kept, err := d.readConfig(ctx, options, o)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // it was reset
	}
	if err == nil {
		err = replaces(kept)
	}
	if err != nil {
		return fmt.Errorf("%w (%w)", &InstalledError{d.path}, err)
	}
	return nil
}

// clearMeta makes META what it is on a new disk.
func (d *disk) clearMeta(table *gpt.Table) error {
	entry := osdisk.Meta.Find(table)
	size := int64(entry.End-entry.Start+1) * int64(table.LogicalSectorSize)
	if _, err := d.WriteAt(make([]byte, size), int64(entry.Start)*int64(table.LogicalSectorSize)); err != nil {
		return fmt.Errorf("clear META of %s: %w", d.path, err)
	}
	return nil
}

// checkUnused tells whether nothing on the disk is mounted or otherwise in use.
func (d *disk) checkUnused() error {
	exclusive, err := os.OpenFile(d.path, os.O_RDWR|unix.O_EXCL, 0)
	if err != nil {
		return fmt.Errorf("%s is in use: %w", d.path, err)
	}
	return exclusive.Close()
}

// clear erases what would be taken for another system's later: the places at a
// disk's edges where tables and file systems are.
func (d *disk) clear(o observation) error {
	zeros := make([]byte, eraseEdge)
	for _, at := range []int64{0, int64(o.size) - eraseEdge} {
		if _, err := d.WriteAt(zeros, at); err != nil {
			return fmt.Errorf("erase the edges of %s: %w", d.path, err)
		}
	}
	return nil
}

// reread has the kernel take over the partitions of a table that was written.
func (d *disk) reread() error {
	if err := unix.IoctlSetInt(int(d.Fd()), unix.BLKRRPART, 0); err != nil {
		return fmt.Errorf("have the kernel read the partition table of %s: %w", d.path, err)
	}
	return nil
}

// flush waits until everything is on the disk, and has it read from there.
func (d *disk) flush() error {
	if err := d.Sync(); err != nil {
		return fmt.Errorf("flush %s: %w", d.path, err)
	}
	if err := unix.IoctlSetInt(int(d.Fd()), unix.BLKFLSBUF, 0); err != nil {
		return fmt.Errorf("forget what was cached of %s: %w", d.path, err)
	}
	return nil
}

// installState makes STATE unless it is there, and puts the config on it.
func (d *disk) installState(ctx context.Context, uevents *host.Uevents, options Options, table *gpt.Table, o observation, config []byte) error {
	entry := osdisk.State.Find(table)
	node, err := d.partitionNode(ctx, uevents, options.OS.Root(), entry, o.sectorSize)
	if err != nil {
		return err
	}
	s := &Storage{options: options}
	size := int64(entry.End-entry.Start+1) * int64(o.sectorSize)
	if err := s.makeOrCheck(ctx, node, osdisk.State.Name, size, entry.Attributes&formatted == 0); err != nil {
		return err
	}
	entry.Attributes |= formatted
	return withState(options, node, 0, func(dir string) error {
		path := filepath.Join(dir, configFile)
		if err := writeSynced(path, config, 0o600); err != nil {
			return fmt.Errorf("write the machine config to STATE: %w", err)
		}
		return nil
	})
}

// withState mounts STATE while do runs.
func withState(options Options, node string, flags uintptr, do func(dir string) error) error {
	flags |= unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC | unix.MS_NOATIME
	if err := options.OS.Mount(node, options.StateDir, "ext4", flags, ""); err != nil {
		return fmt.Errorf("mount STATE (%s) on %s: %w", node, options.StateDir, err)
	}
	err := do(options.StateDir)
	if unmountErr := options.OS.Unmount(options.StateDir, 0); unmountErr != nil {
		err = errors.Join(err, fmt.Errorf("unmount STATE: %w", unmountErr))
	}
	return err
}

// ReadConfig reads the machine config that the disk was installed with. It is
// fs.ErrNotExist if there is none.
func ReadConfig(ctx context.Context, options Options) (config []byte, err error) {
	setDefaults(&options)
	err = withOwnTable(ctx, options, func(d *disk, o observation) error {
		config, err = d.readConfig(ctx, options, o)
		return err
	})
	if err == nil && config == nil {
		err = os.ErrNotExist // a blank disk
	}
	return config, err
}

func (d *disk) readConfig(ctx context.Context, options Options, o observation) (config []byte, err error) {
	entry := osdisk.State.Find(o.table)
	name := d.partitionName(options.OS.Root(), entry.Index)
	switch {
	case entry.Attributes&formatted == 0:
		return nil, os.ErrNotExist
	case name == "":
		return nil, fmt.Errorf("the kernel does not know the partition %s of %s", osdisk.State.Name, d.path)
	}
	checking, cancel := context.WithTimeout(ctx, workDeadline)
	defer cancel()
	if _, err := checkFilesystem(checking, options.OS, "/dev/"+name, osdisk.State.Name); err != nil {
		return nil, err
	}
	err = withState(options, "/dev/"+name, unix.MS_RDONLY, func(dir string) error {
		config, err = os.ReadFile(filepath.Join(dir, configFile))
		return err
	})
	return config, err
}

// KeepConfig puts a config on the STATE of an installed disk, which it makes if a
// reset left none.
func KeepConfig(ctx context.Context, options Options, config []byte) error {
	setDefaults(&options)
	return withOwnTable(ctx, options, func(d *disk, o observation) error {
		uevents, err := host.ListenUevents()
		if err != nil {
			return err
		}
		defer uevents.Close()
		working, cancel := context.WithTimeout(ctx, workDeadline)
		defer cancel()
		if err := d.installState(working, uevents, options, o.table, o, config); err != nil {
			return err
		}
		if err := osdisk.WriteTable(d, o.table, o.size); err != nil {
			return fmt.Errorf("%s: %w", d.path, err)
		}
		return d.flush()
	})
}

// Content says in a few words what is on a disk: "nothing", or what would be
// refused.
func Content(path string) (string, error) {
	file, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer file.Close()
	o, err := (&disk{File: file, path: path}).observe()
	if err != nil {
		return "", err
	}
	return o.describe(), nil
}

func (o observation) describe() string {
	switch {
	case o.table == nil && o.blank:
		return "nothing"
	case o.table == nil && o.content == "":
		return "nothing that was looked for: it is too small"
	case o.table == nil:
		return o.content
	case !osdisk.IsOwn(o.table):
		return describe(o.table)
	case osdisk.IsInstalled(o.table):
		return "Keelson"
	}
	return "a node's data, without an operating system"
}
