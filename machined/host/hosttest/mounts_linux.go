package hosttest

import (
	"fmt"
	"os"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// ownMounts is in the environment of a process that Main has given its namespace.
const ownMounts = "KEELSON_TEST_OWN_MOUNTS"

// Main is the TestMain of a package whose tests mount block devices. It runs them in
// a mount namespace of their own. In the machine's, any other package's test that
// starts a process in a namespace would copy the mounts into it, and their devices
// stay busy until that process ends. An ordinary user's tests, which mount nothing,
// just run.
func Main(m *testing.M) {
	if os.Getuid() != 0 || os.Getenv(ownMounts) != "" {
		os.Exit(m.Run())
	}
	fmt.Fprintln(os.Stderr, "enter a mount namespace:", startAgain())
	os.Exit(1)
}

// startAgain replaces the process by itself in a new namespace, or fails.
func startAgain() error {
	runtime.LockOSThread() // a namespace is a thread's, and the one that executes stays
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return err
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return err
	}
	program, err := os.Executable()
	if err != nil {
		return err
	}
	return unix.Exec(program, os.Args, append(os.Environ(), ownMounts+"=1"))
}
