package localpath

import (
	"errors"
	"fmt"
	"path/filepath"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// What may be done below the folder of volumes, and below those of the files
// that are only read.
const (
	volumeAccess = unix.LANDLOCK_ACCESS_FS_READ_DIR | unix.LANDLOCK_ACCESS_FS_MAKE_DIR |
		unix.LANDLOCK_ACCESS_FS_REMOVE_DIR | unix.LANDLOCK_ACCESS_FS_REMOVE_FILE | unix.LANDLOCK_ACCESS_FS_REFER
	readAccess = unix.LANDLOCK_ACCESS_FS_READ_DIR | unix.LANDLOCK_ACCESS_FS_READ_FILE
)

// handledAccess is everything that Landlock 3 can deny: running programs,
// reading, writing, making and removing.
const handledAccess = unix.LANDLOCK_ACCESS_FS_TRUNCATE<<1 - 1

// landlockMin is the first version that lets folders be moved at all (2), and
// denies truncating (3): Linux 6.2.
const landlockMin = 3

var errNoLandlock = errors.New("the kernel has no Landlock")

// confine gives this process' files up, but for those below the folder of
// volumes and below the one of the kubeconfig. It is allowed to overrule files'
// modes, which it must be to remove what pods left, and so could read every key
// of the node.
func confine(volumes, kubeconfig string) error {
	version, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	if errno != 0 || version < landlockMin {
		return errNoLandlock
	}
	attr := unix.LandlockRulesetAttr{Handled_access_fs: handledAccess}
	fd, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, uintptr(unsafe.Pointer(&attr)), unsafe.Sizeof(attr.Handled_access_fs), 0)
	if errno != 0 {
		return fmt.Errorf("make a Landlock ruleset: %w", errno)
	}
	defer unix.Close(int(fd))
	for path, access := range map[string]uint64{volumes: volumeAccess, filepath.Dir(kubeconfig): readAccess} {
		if err := allow(int(fd), path, access); err != nil {
			return fmt.Errorf("allow %s in Landlock: %w", path, err)
		}
	}
	// Of every thread, and of those to come.
	if _, _, errno := syscall.AllThreadsSyscall6(unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0, 0); errno != 0 {
		return fmt.Errorf("set no_new_privs: %w", errno)
	}
	if _, _, errno := syscall.AllThreadsSyscall(unix.SYS_LANDLOCK_RESTRICT_SELF, fd, 0, 0); errno != 0 {
		return fmt.Errorf("enter the Landlock ruleset: %w", errno)
	}
	return nil
}

func allow(ruleset int, path string, access uint64) error {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	rule := unix.LandlockPathBeneathAttr{Allowed_access: access, Parent_fd: int32(fd)}
	_, _, errno := unix.Syscall6(unix.SYS_LANDLOCK_ADD_RULE, uintptr(ruleset), unix.LANDLOCK_RULE_PATH_BENEATH, uintptr(unsafe.Pointer(&rule)), 0, 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}
