package hosttest

import (
	"errors"
	"os"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"
)

// LoopDevice makes a part of a file a block device for the time of a test, and
// returns its node; a size of zero is the rest of the file. flags are the kernel's
// LO_FLAGS. Where nobody may make one, as an ordinary user or in most containers,
// the test is skipped: "make test" in CI runs as root, and has them.
func LoopDevice(t *testing.T, file *os.File, offset, size uint64, flags uint32) string {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("only root can make loop devices and mount them: run the test as root")
	}
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		t.Skip("no loop devices here: ", err)
	}
	defer control.Close()
	const tries = 10 // another test may take the free one first
	for range tries {
		number, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
		if err != nil {
			t.Skip("no free loop device: ", err)
		}
		path := "/dev/loop" + strconv.Itoa(number)
		device, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			t.Skip("no loop devices here: ", err)
		}
		config := unix.LoopConfig{Fd: uint32(file.Fd())}
		config.Info.Offset, config.Info.Sizelimit, config.Info.Flags = offset, size, flags
		err = unix.IoctlLoopConfigure(int(device.Fd()), &config)
		if errors.Is(err, unix.EBUSY) {
			device.Close()
			continue
		}
		if err != nil {
			t.Skip("no loop devices here: ", err)
		}
		t.Cleanup(func() {
			if err := unix.IoctlSetInt(int(device.Fd()), unix.LOOP_CLR_FD, 0); err != nil {
				t.Errorf("detach %s: %v", path, err)
			}
			device.Close()
		})
		return path
	}
	t.Fatalf("%d loop devices in a row were taken by others", tries)
	return ""
}
