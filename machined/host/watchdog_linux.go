package host

import (
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// WatchdogDevice is the kernel's first watchdog.
const WatchdogDevice = "/dev/watchdog0"

// silentTimeout is assumed of a watchdog that does not tell: short ones have half
// a minute.
const silentTimeout = 16 * time.Second

// Watchdog resets the machine unless it is told in time that all is well.
type Watchdog struct {
	file *os.File
	// Timeout is what the hardware made of the one that was asked for.
	Timeout time.Duration
	// Identity is the driver's name for it.
	Identity string
}

// OpenWatchdog starts the watchdog. It is fs.ErrNotExist where there is none. It
// is never stopped: a machine that hangs on its way down is reset as well.
func OpenWatchdog(path string, timeout time.Duration) (*Watchdog, error) {
	file, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return nil, err
	}
	w := &Watchdog{file: file}
	seconds := int(timeout / time.Second)
	// A driver that cannot change its timeout says so; what it has is asked then.
	_ = unix.IoctlSetPointerInt(int(file.Fd()), unix.WDIOC_SETTIMEOUT, seconds)
	// It runs since it was opened: one that does not tell its time gets a sign of
	// life often.
	if seconds, err = unix.IoctlGetInt(int(file.Fd()), unix.WDIOC_GETTIMEOUT); err != nil || seconds <= 0 {
		seconds = int(silentTimeout / time.Second)
	}
	w.Timeout = time.Duration(seconds) * time.Second
	if info, err := unix.IoctlGetWatchdogInfo(int(file.Fd())); err == nil {
		w.Identity = unix.ByteSliceToString(info.Identity[:])
	}
	return w, nil
}

// Pet tells the watchdog that all is well.
func (w *Watchdog) Pet() error {
	return unix.IoctlWatchdogKeepalive(int(w.file.Fd()))
}
