package main

import (
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// Levels of messages in the kernel's log.
const (
	errorLevel = 3
	infoLevel  = 6
)

// openConsole makes the console this program's input and output: the kernel
// gives it none when the initramfs has no /dev/console. machined inherits it.
func openConsole() error {
	console, err := os.OpenFile("/dev/console", os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("open the console: %w", err)
	}
	defer console.Close()
	for fd := range 3 {
		if fd == int(console.Fd()) {
			continue
		}
		if err := unix.Dup3(int(console.Fd()), fd, 0); err != nil {
			return fmt.Errorf("take over the console: %w", err)
		}
	}
	return nil
}

// say writes to the kernel's log, which shows it on every console and keeps it
// for "osctl dmesg"; before /dev is mounted, to the standard error.
func say(level int, format string, args ...any) {
	message := fmt.Sprintf(format, args...)
	log, err := os.OpenFile("/dev/kmsg", os.O_WRONLY, 0)
	if err != nil {
		fmt.Fprintln(os.Stderr, "keelson initramfs:", message)
		return
	}
	defer log.Close()
	// The kernel takes a line at a time.
	for line := range strings.Lines(message) {
		if _, err := fmt.Fprintf(log, "<%d>keelson initramfs: %s", level, line); err != nil {
			fmt.Fprintln(os.Stderr, "keelson initramfs:", line)
		}
	}
}
