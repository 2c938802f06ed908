package host

import (
	"context"
	"io/fs"
	"os"
	"time"
)

// OS is what machined asks of the kernel. Each call is named so that a test can
// fail exactly that one (package hosttest).
type OS interface {
	// Root is the root file system, for reading: names have no leading slash.
	Root() fs.FS
	// WriteControl writes to a file that the kernel already made, such as a
	// sysctl or a cgroup's control file; an absent file is fs.ErrNotExist.
	WriteControl(path, value string) error
	// MkdirAll makes a directory and its parents; the mode is exact, whatever
	// the umask.
	MkdirAll(path string, mode fs.FileMode) error
	// Mount and Unmount are mount(2) and umount2(2).
	Mount(source, target, fstype string, flags uintptr, data string) error
	Unmount(target string, flags int) error
	// LoadModule gives the module file to the kernel; one that is already
	// loaded is no error.
	LoadModule(path string) error
	// SetHostname names the running kernel.
	SetHostname(name string) error
	// RaiseFileLimit sets this process's limit on open files, soft and hard.
	RaiseFileLimit(files uint64) error
	// Run runs a program to its end and returns what it printed, standard
	// error included. A non-zero exit is a *exec.ExitError.
	Run(ctx context.Context, path string, args ...string) (output string, err error)
	// SinceBoot is the time since the kernel started, sleep included.
	SinceBoot() time.Duration
	// LoadKexec has the kernel start another one at the next Reboot(Kexec). Both
	// files are read to their end.
	LoadKexec(kernel, initrd *os.File, commandLine string) error
	// Sync flushes every file system; Reboot does not.
	Sync()
	// Reboot ends the machine's run at once; on success it does not return.
	Reboot(RebootMode) error
}

// RebootMode says how the machine's run ends.
type RebootMode int

// The ways to end a run.
const (
	Restart RebootMode = iota
	PowerOff
	Halt
	Kexec // restart with the kernel that LoadKexec was given
)

func (m RebootMode) String() string {
	switch m {
	case Restart:
		return "restart"
	case PowerOff:
		return "power off"
	case Halt:
		return "halt"
	case Kexec:
		return "kexec"
	}
	return "unknown reboot mode"
}
