package host

import (
	"errors"
	"fmt"
	"io/fs"

	"golang.org/x/sys/unix"
)

// mountPoint is one line of the mount table.
type mountPoint struct {
	source, target, fstype string
	flags                  uintptr
	data                   string
	mode                   fs.FileMode // of the directory, where it has to be made
}

const (
	noSuidDev     = unix.MS_NOSUID | unix.MS_NODEV
	noSuidDevExec = noSuidDev | unix.MS_NOEXEC
)

// baseMounts is what exists before any service: the kernel's own file systems
// and memory for what lives until the next reboot. Order matters: parents first.
var baseMounts = []mountPoint{
	{"proc", "/proc", "proc", noSuidDevExec, "", 0o755},
	{"sysfs", "/sys", "sysfs", noSuidDevExec, "", 0o755},
	{"devtmpfs", "/dev", "devtmpfs", unix.MS_NOSUID, "mode=0755", 0o755},
	// gid 5 is tty in Debian's base-passwd, which images copies.
	{"devpts", "/dev/pts", "devpts", unix.MS_NOSUID | unix.MS_NOEXEC, "gid=5,mode=620,ptmxmode=666", 0o755},
	{"tmpfs", "/dev/shm", "tmpfs", noSuidDev, "mode=1777", 0o1777},
	{"mqueue", "/dev/mqueue", "mqueue", noSuidDevExec, "", 0o755},
	// Half of the memory at most, so that a runaway writer cannot take it all.
	{"tmpfs", "/run", "tmpfs", noSuidDev, "mode=0755,size=50%", 0o755},
	{"tmpfs", "/tmp", "tmpfs", noSuidDev, "mode=1777,size=25%", 0o1777},
	// nsdelegate makes a cgroup namespace's root a boundary that containers
	// cannot move processes across.
	{"cgroup2", "/sys/fs/cgroup", "cgroup2", noSuidDevExec, "nsdelegate,memory_recursiveprot", 0o755},
	{"bpf", "/sys/fs/bpf", "bpf", noSuidDevExec, "mode=0700", 0o700},
	{"securityfs", "/sys/kernel/security", "securityfs", noSuidDevExec, "", 0o755},
}

// MountBase mounts the kernel's file systems and the memory-backed directories.
// What the initramfs or the kernel already mounted is left as it is. All failures are
// reported together, so that one log line tells the whole story.
func MountBase(os OS) error {
	var failed []error
	for _, m := range baseMounts {
		// The kernel makes some of the directories itself, and the root is
		// read-only: only mount itself decides.
		mkdirErr := os.MkdirAll(m.target, m.mode)
		err := os.Mount(m.source, m.target, m.fstype, m.flags, m.data)
		if errors.Is(err, unix.EBUSY) {
			continue // mounted by the initramfs
		}
		if errors.Is(err, fs.ErrNotExist) && mkdirErr != nil {
			err = mkdirErr
		}
		if err != nil {
			failed = append(failed, fmt.Errorf("mount %s on %s: %w", m.fstype, m.target, err))
		}
	}
	// Containers see later mounts (volumes, CSI) only through a shared root.
	if err := os.Mount("", "/", "", unix.MS_REC|unix.MS_SHARED, ""); err != nil {
		failed = append(failed, fmt.Errorf("make the mounts under / shared: %w", err))
	}
	return errors.Join(failed...)
}
