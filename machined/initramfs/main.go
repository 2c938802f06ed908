package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/keelson-os/keelson/machined/host"
	"github.com/keelson-os/keelson/machined/host/entries"
	"github.com/keelson-os/keelson/machined/host/verity"
)

const (
	// rootHashName is the kernel command line's word for the one root image that
	// may be mounted.
	rootHashName = "keelson.roothash"
	// modulesList holds the names of the modules to load, one per line.
	modulesList = "etc/modules-load"
	newRoot     = "/sysroot"
	initProgram = "/sbin/init"

	// USB disks were seen 4 s after power-on, on slow machines later.
	deviceDeadline = time.Minute
	// A medium is looked for when the disk was, which took its time.
	mediumDeadline = 20 * time.Second
	// How long a failure stands on the console before the next attempt.
	readingTime = 15 * time.Second
)

func main() {
	if os.Getpid() != 1 {
		fmt.Fprintln(os.Stderr, "initramfs: this is the first program of a Keelson node's boot; it only runs as process 1")
		os.Exit(1)
	}
	err := run(host.Linux{})
	say(errorLevel, "cannot boot: %v", err)
	say(errorLevel, "restarting in %s", readingTime)
	time.Sleep(readingTime)
	err = host.Linux{}.Reboot(host.Restart)
	// The kernel panics when process 1 ends; that restarts as well, with panic=.
	say(errorLevel, "%v", err)
}

// run boots. It only returns when that did not work.
func run(machine host.OS) error {
	if err := mountKernel(machine); err != nil {
		return err
	}
	if err := openConsole(); err != nil {
		return err
	}
	commandLine, err := host.ReadCommandLine(machine.Root())
	if err != nil {
		return err
	}
	rootHash, err := wantedRoot(commandLine)
	if err != nil {
		return err
	}
	uevents, err := host.ListenUevents()
	if err != nil {
		return err
	}
	defer uevents.Close()
	ctx, cancel := context.WithTimeout(context.Background(), deviceDeadline)
	defer cancel()
	modules, err := loadModules(ctx, machine)
	if err != nil {
		return err
	}
	if hasMedium(machine.Root()) {
		if err := attachMedium(); err != nil {
			return err
		}
	}
	drivers := host.NewDrivers(machine, modules)
	damage := enterRoot(ctx, machine, uevents, drivers, search{want: rootHash, slots: true})
	if !errors.As(damage, new(damagedError)) {
		return damage
	}
	giveUpCtx, cancel := context.WithTimeout(context.Background(), deviceDeadline)
	defer cancel()
	err = giveUp(giveUpCtx, machine, modules, rootHash)
	// Another node's disk may be here, whose entries say nothing of this boot.
	if err == nil || errors.Is(err, entries.ErrCounted) && !errors.Is(err, entries.ErrNoOther) {
		return damage
	}
	// No other slot: what is left is a medium with the same image, from which the
	// node can be installed anew.
	say(errorLevel, "%v", errors.Join(damage, err))
	mediumCtx, cancel := context.WithTimeout(context.Background(), mediumDeadline)
	defer cancel()
	return enterRoot(mediumCtx, machine, uevents, drivers, search{want: rootHash})
}

// damagedError says that what is in a slot of the node's disk is not the root image
// that it should be. Other failures, such as of a driver, are no reason to give an
// image up.
type damagedError struct{ error }

func (e damagedError) Unwrap() error { return e.error }

// enterRoot finds the root image, verifies it, and starts what is in it. It only
// returns when that did not work.
func enterRoot(ctx context.Context, machine host.OS, uevents *host.Uevents, drivers *host.Drivers, s search) error {
	root, err := findRoot(ctx, uevents, machine.Root(), drivers, s)
	if errors.As(err, new(*notFoundError)) {
		return damagedError{err} // unless there is no installed disk, see giveUp
	}
	if err != nil {
		return err
	}
	say(infoLevel, "root image with root hash %s found on %s", s.want, root.device)
	device := root.device
	if root.size > 0 {
		if device, err = verity.Window(verity.MediumDevice, root.device, root.start, root.size); err != nil {
			return err
		}
	}
	node, err := verity.Open(verity.RootDevice, device, root.superblock, root.hashOffset, s.want)
	if err != nil {
		return err
	}
	if err := mountRoot(machine, node); err != nil {
		if closeErr := verity.Close(verity.RootDevice); closeErr != nil {
			say(errorLevel, "%v", closeErr)
		}
		if root.slot {
			return damagedError{err}
		}
		return err
	}
	return switchRoot(machine)
}

// mountRoot mounts the root image, or leaves nothing mounted.
func mountRoot(machine host.OS, node string) error {
	if err := machine.MkdirAll(newRoot, 0o755); err != nil {
		return err
	}
	if err := machine.Mount(node, newRoot, "squashfs", unix.MS_RDONLY|unix.MS_NODEV|unix.MS_NOSUID, ""); err != nil {
		return fmt.Errorf("mount the verified root image %s: %w", node, err)
	}
	if err := checkProgram(newRoot + initProgram); err != nil {
		return errors.Join(err, machine.Unmount(newRoot, 0))
	}
	return nil
}

// wantedRoot is the root hash that the command line demands. Without one nothing
// is mounted: an unverified root is worse than none.
func wantedRoot(commandLine host.CommandLine) (verity.RootHash, error) {
	value, ok := commandLine.Last(rootHashName)
	if !ok {
		return verity.RootHash{}, fmt.Errorf(
			"the kernel command line has no %s=HEX: add the root hash that was built with the image (rootfs.roothash)", rootHashName)
	}
	hash, err := verity.ParseRootHash(value)
	if err != nil {
		return verity.RootHash{}, fmt.Errorf("%s on the kernel command line: %w", rootHashName, err)
	}
	return hash, nil
}

// mountKernel mounts what the rest needs; machined takes the mounts over.
func mountKernel(machine host.OS) error {
	for _, m := range []struct {
		fstype, target string
		flags          uintptr
	}{
		{"devtmpfs", "/dev", unix.MS_NOSUID},
		{"proc", "/proc", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC},
		{"sysfs", "/sys", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC},
	} {
		if err := machine.MkdirAll(m.target, 0o755); err != nil {
			return err
		}
		if err := machine.Mount(m.fstype, m.target, m.fstype, m.flags, ""); err != nil {
			return fmt.Errorf("mount %s on %s: %w", m.fstype, m.target, err)
		}
	}
	return nil
}

// loadModules loads the modules of modulesList and what they need. The result
// knows all others.
func loadModules(ctx context.Context, machine host.OS) (*host.Modules, error) {
	list, err := fs.ReadFile(machine.Root(), modulesList)
	if err != nil {
		return nil, fmt.Errorf("list the modules to load: %w", err)
	}
	release, err := host.KernelRelease()
	if err != nil {
		return nil, err
	}
	modules, err := host.ReadModules(machine.Root(), path.Join("lib/modules", release))
	if err != nil {
		return nil, err
	}
	names := strings.Fields(string(list))
	if hasMedium(machine.Root()) {
		names = append(names, loopModule)
	}
	steps, unknown := modules.Plan(names...)
	if err := errors.Join(unknown, host.LoadModules(ctx, machine, steps)); err != nil {
		// One missing module need not be the one that matters.
		say(errorLevel, "%v", err)
	}
	return modules, nil
}
