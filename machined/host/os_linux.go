package host

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Linux is the running kernel.
type Linux struct{}

var _ OS = Linux{}

// Root is the root file system.
func (Linux) Root() fs.FS { return os.DirFS("/") }

// WriteControl writes value in one write(2), as kernel files want it.
func (Linux) WriteControl(path, value string) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(value)
	return errors.Join(err, f.Close())
}

// MkdirAll makes a directory with exactly the given mode.
func (Linux) MkdirAll(path string, mode fs.FileMode) error {
	if err := os.MkdirAll(path, mode); err != nil {
		return err
	}
	return os.Chmod(path, mode)
}

// Mount is mount(2).
func (Linux) Mount(source, target, fstype string, flags uintptr, data string) error {
	return unix.Mount(source, target, fstype, flags, data)
}

// Unmount is umount2(2).
func (Linux) Unmount(target string, flags int) error { return unix.Unmount(target, flags) }

// LoadModule is finit_module(2).
func (Linux) LoadModule(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	flags := 0
	if strings.HasSuffix(path, ".xz") {
		flags = unix.MODULE_INIT_COMPRESSED_FILE
	}
	if err := unix.FinitModule(int(f.Fd()), "", flags); err != nil && !errors.Is(err, unix.EEXIST) {
		return err
	}
	return nil
}

// SetHostname is sethostname(2).
func (Linux) SetHostname(name string) error { return unix.Sethostname([]byte(name)) }

// RaiseFileLimit is setrlimit(2) of RLIMIT_NOFILE.
func (Linux) RaiseFileLimit(files uint64) error {
	return unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: files, Max: files})
}

// Run runs a program to its end. Cancelling ctx kills it.
func (Linux) Run(ctx context.Context, path string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, path, args...)
	// A killed program's child may hold the output pipe open; do not wait for it.
	cmd.WaitDelay = time.Second
	output, err := cmd.CombinedOutput()
	return strings.TrimSpace(string(output)), err
}

// SinceBoot reads CLOCK_BOOTTIME.
func (Linux) SinceBoot() time.Duration {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &now); err != nil {
		return 0 // cannot happen: the clock exists since Linux 2.6.39
	}
	return time.Duration(now.Nano())
}

// Sync is sync(2), which on Linux waits until the data is written.
func (Linux) Sync() { unix.Sync() }

// LoadKexec is kexec_file_load(2).
func (Linux) LoadKexec(kernel, initrd *os.File, commandLine string) error {
	if err := unix.KexecFileLoad(int(kernel.Fd()), int(initrd.Fd()), commandLine, 0); err != nil {
		return fmt.Errorf("load the next kernel: %w", err)
	}
	return nil
}

// Reboot is reboot(2).
func (Linux) Reboot(mode RebootMode) error {
	command, ok := map[RebootMode]int{
		Restart:  unix.LINUX_REBOOT_CMD_RESTART,
		PowerOff: unix.LINUX_REBOOT_CMD_POWER_OFF,
		Halt:     unix.LINUX_REBOOT_CMD_HALT,
		Kexec:    unix.LINUX_REBOOT_CMD_KEXEC,
	}[mode]
	if !ok {
		return fmt.Errorf("reboot: %s %d", mode, mode)
	}
	if err := unix.Reboot(command); err != nil {
		return fmt.Errorf("%s: %w", mode, err)
	}
	return nil
}

// KernelRelease is the running kernel's release, as uname -r prints it.
func KernelRelease() (string, error) {
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return "", fmt.Errorf("read the kernel release: %w", err)
	}
	return unix.ByteSliceToString(name.Release[:]), nil
}
