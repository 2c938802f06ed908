package storage

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/keelson-os/keelson/machined/host"
	"github.com/keelson-os/keelson/pkg/machineconfig"
	"github.com/keelson-os/keelson/pkg/osdisk"
)

// Where the node's own data is.
const (
	StateDir = "/system/state"
	VarDir   = "/var"
	// MachineIDPath is what /etc/machine-id leads to.
	MachineIDPath = "/run/keelson/etc/machine-id"
)

// Deadlines: USB and network disks may come late, and the check of a large file
// system that was damaged reads all of its inodes.
const (
	deviceDeadline = time.Minute
	workDeadline   = 30 * time.Minute
)

// Options of Open; empty paths mean the constants above.
type Options struct {
	// Disk is machine.install.disk: "/dev/vda".
	Disk string
	// Selector, if given, finds the disk instead.
	Selector machineconfig.DiskSelector
	// Medium is the kernel's name of what the node was booted from, which is never
	// the disk; "" if that is the disk, or none.
	Medium string
	// Booted tells that the node runs from the disk.
	Booted bool
	// Keep are the partitions that Condemn, Spare and Wipe leave alone, by name.
	Keep []string
	OS   host.OS
	Log  *slog.Logger
	// Reserve is the user who alone may use the last blocks of /var, beside
	// processes with CAP_SYS_RESOURCE: etcd's.
	Reserve uint32

	StateDir, VarDir, MachineIDPath string
	// Deadline for the disk to appear; zero means a minute.
	Deadline time.Duration
}

// Storage is the node's mounted file systems.
type Storage struct {
	options Options
	// MachineID is the node's identity, made on the first boot: 32 hexadecimal
	// digits.
	MachineID string
	// Formatted tells that this boot made the file systems.
	Formatted bool
}

// varDirectories exist on /var before any service starts.
var varDirectories = []struct {
	path string
	mode fs.FileMode
}{
	{"log", 0o755},
	{"log/pods", 0o755},
	{"lib", 0o755},
	{"tmp", 0o1777},
}

// Open mounts the node's partitions. On an empty disk it makes them first; on
// its own it repairs what a power cut left, and finishes a first format that was
// cut short. A disk that holds anything else is refused with a
// *ForeignDataError, and nothing is written.
func Open(ctx context.Context, options Options) (*Storage, error) {
	setDefaults(&options)
	s := &Storage{options: options}
	nodes, err := s.prepare(ctx)
	if err != nil {
		return nil, err
	}
	if err := s.mount(nodes); err != nil {
		return nil, errors.Join(err, s.unmountAll())
	}
	if err := growFilesystem(s.options.VarDir, nodes[osdisk.Ephemeral.Name]); err != nil {
		// It holds what it held before.
		s.options.Log.Error("the file system stays smaller than its partition", "error", err)
	}
	if err := s.furnish(); err != nil {
		return nil, errors.Join(err, s.unmountAll())
	}
	return s, nil
}

func setDefaults(o *Options) {
	for _, setting := range []struct {
		value    *string
		fallback string
	}{{&o.StateDir, StateDir}, {&o.VarDir, VarDir}, {&o.MachineIDPath, MachineIDPath}} {
		if *setting.value == "" {
			*setting.value = setting.fallback
		}
	}
	if o.Deadline == 0 {
		o.Deadline = deviceDeadline
	}
}

// prepare makes the partitions mountable and returns their device nodes by name.
func (s *Storage) prepare(ctx context.Context) (map[string]string, error) {
	uevents, err := host.ListenUevents()
	if err != nil {
		return nil, err
	}
	defer uevents.Close()
	appearing, cancel := context.WithTimeout(ctx, s.options.Deadline)
	defer cancel()
	root := s.options.OS.Root()
	d, err := openDisk(appearing, uevents, s.options)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	o, err := d.observe()
	if err != nil {
		return nil, err
	}
	todo, err := decide(d.path, o)
	if err != nil {
		return nil, err
	}
	if s.options.Booted && o.table != nil && !osdisk.IsInstalled(o.table) {
		// The power was cut in the installation's last step. What runs from the disk
		// is no installation to be taken up again.
		osdisk.SetInstalled(o.table, true)
		todo.table = o.table
	}
	table := o.table
	if todo.table != nil {
		s.options.Log.Info("writing the partition table", "disk", d.path)
		table = todo.table
		if err := osdisk.WriteTable(d, table, o.size); err != nil {
			return nil, fmt.Errorf("%s: %w", d.path, err)
		}
	}
	working, cancel := context.WithTimeout(ctx, workDeadline)
	defer cancel()
	nodes := map[string]string{}
	for _, own := range fileSystems {
		entry := own.Find(table)
		node, err := d.partitionNode(working, uevents, root, entry, o.sectorSize)
		if err != nil {
			return nil, err
		}
		nodes[own.Name] = node
		if todo.grown {
			if err := d.announce(unix.BLKPG_RESIZE_PARTITION, entry, o.sectorSize); err != nil {
				return nil, err
			}
		}
		size := int64(entry.End-entry.Start+1) * int64(o.sectorSize)
		if err := s.makeOrCheck(working, node, own.Name, size, slices.Contains(todo.format, own.Name)); err != nil {
			return nil, err
		}
		entry.Attributes |= formatted
	}
	if len(todo.format) > 0 {
		// Only now, with the file systems on the disk.
		if err := osdisk.WriteTable(d, table, o.size); err != nil {
			return nil, fmt.Errorf("%s: %w", d.path, err)
		}
		s.Formatted = true
	}
	return nodes, nil
}

func (s *Storage) makeOrCheck(ctx context.Context, node, name string, size int64, format bool) error {
	if format {
		s.options.Log.Info("making the file system", "name", name, "partition", node)
		return makeFilesystem(ctx, s.options.OS, node, name, size)
	}
	repaired, err := checkFilesystem(ctx, s.options.OS, node, name)
	if repaired != "" {
		s.options.Log.Warn("the file system was repaired", "name", name, "partition", node, "output", repaired)
	}
	return err
}

// mount mounts the partitions. /var keeps setuid programs and allows their
// execution: containers have them.
func (s *Storage) mount(nodes map[string]string) error {
	// A file system with an error goes read-only rather than lose more.
	const careful = "errors=remount-ro"
	// With a user of its own named, root in a container has no claim on the
	// reserved blocks.
	reserve := fmt.Sprintf("%s,resuid=%d", careful, s.options.Reserve)
	for _, m := range []struct {
		name, dir string
		flags     uintptr
		options   string
	}{
		{osdisk.State.Name, s.options.StateDir, unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC | unix.MS_NOATIME, careful},
		{osdisk.Ephemeral.Name, s.options.VarDir, unix.MS_NODEV | unix.MS_NOATIME, reserve},
	} {
		if err := s.options.OS.Mount(nodes[m.name], m.dir, "ext4", m.flags, m.options); err != nil {
			return fmt.Errorf("mount %s (%s) on %s: %w", m.name, nodes[m.name], m.dir, err)
		}
	}
	return nil
}

// furnish makes what services expect to find.
func (s *Storage) furnish() error {
	machine := s.options.OS
	// The config and the identity are nobody's but root's.
	if err := machine.MkdirAll(s.options.StateDir, 0o700); err != nil {
		return err
	}
	for _, d := range varDirectories {
		if err := machine.MkdirAll(filepath.Join(s.options.VarDir, d.path), d.mode); err != nil {
			return err
		}
	}
	if err := os.Symlink("/run", filepath.Join(s.options.VarDir, "run")); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	id, err := machineID(s.options.StateDir)
	if err != nil {
		return err
	}
	s.MachineID = id
	if err := machine.MkdirAll(filepath.Dir(s.options.MachineIDPath), 0o755); err != nil {
		return err
	}
	if err := writeSynced(s.options.MachineIDPath, []byte(id+"\n"), 0o444); err != nil {
		return fmt.Errorf("write the machine ID: %w", err)
	}
	return nil
}
