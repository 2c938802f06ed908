package host

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Uevent is the kernel's word that a device came, went or changed.
type Uevent struct {
	Action  string // "add", "remove", "change", "bind", …
	DevPath string // below /sys: "/devices/pci0000:00/…/block/vda"
	// Env has what the driver says: SUBSYSTEM, DEVNAME, MODALIAS, …
	Env map[string]string
}

// ErrUeventsLost says that the kernel's queue overflowed: look at all devices
// again.
var ErrUeventsLost = errors.New("uevents were lost")

// Uevents listens to the kernel's device events. They are hints: any process
// with CAP_NET_ADMIN can send one, so look before believing.
type Uevents struct{ socket *os.File }

// ListenUevents starts to listen; events from now on are queued.
func ListenUevents() (*Uevents, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_KOBJECT_UEVENT)
	if err != nil {
		return nil, fmt.Errorf("open the uevent socket: %w", err)
	}
	const kernelGroup = 1
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: kernelGroup}); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("listen for uevents: %w", err)
	}
	return &Uevents{os.NewFile(uintptr(fd), "uevents")}, nil
}

// Close stops listening and ends a waiting Next.
func (u *Uevents) Close() error { return u.socket.Close() }

// Next waits for an event. ErrUeventsLost means that there is a gap.
func (u *Uevents) Next(ctx context.Context) (Uevent, error) {
	if err := u.socket.SetReadDeadline(time.Time{}); err != nil {
		return Uevent{}, fmt.Errorf("wait for a uevent: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { _ = u.socket.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	buffer := make([]byte, 16<<10) // the kernel's UEVENT_BUFFER_SIZE is 2 KiB
	for {
		n, err := u.socket.Read(buffer)
		switch {
		case ctx.Err() != nil:
			return Uevent{}, ctx.Err()
		case errors.Is(err, os.ErrDeadlineExceeded): // a call before this one was late to end
			if err := u.socket.SetReadDeadline(time.Time{}); err != nil {
				return Uevent{}, fmt.Errorf("wait for a uevent: %w", err)
			}
			continue
		case errors.Is(err, unix.ENOBUFS):
			return Uevent{}, ErrUeventsLost
		case err != nil:
			return Uevent{}, fmt.Errorf("wait for a uevent: %w", err)
		}
		if event, ok := ParseUevent(string(buffer[:n])); ok {
			return event, nil
		}
	}
}

// lookAgain is how often WaitUntil asks without an event: a disk may answer at the
// second try, and say nothing of it.
const lookAgain = 5 * time.Second

// WaitUntil calls ready now, again after each event, and now and then without one,
// until it says true, fails, or ctx ends.
func (u *Uevents) WaitUntil(ctx context.Context, ready func() (bool, error)) error {
	return waitUntil(ctx, u.Next, ready)
}

func waitUntil(ctx context.Context, next func(context.Context) (Uevent, error), ready func() (bool, error)) error {
	for {
		if done, err := ready(); done || err != nil {
			return err
		}
		waiting, cancel := context.WithTimeout(ctx, lookAgain)
		_, err := next(waiting)
		late := waiting.Err() != nil && ctx.Err() == nil
		cancel()
		if err != nil && !late && !errors.Is(err, ErrUeventsLost) {
			return err
		}
	}
}

// ParseUevent parses the kernel's format: "add@/devices/…", then KEY=value
// strings, all ended by zero bytes. Anything else, such as udev's own messages
// ("libudev"), is not ok.
func ParseUevent(message string) (Uevent, bool) {
	header, rest, _ := strings.Cut(message, "\x00")
	action, devPath, ok := strings.Cut(header, "@")
	if !ok || action == "" || !strings.HasPrefix(devPath, "/") {
		return Uevent{}, false
	}
	event := Uevent{Action: action, DevPath: devPath, Env: map[string]string{}}
	for _, line := range strings.Split(rest, "\x00") {
		if key, value, ok := strings.Cut(line, "="); ok {
			event.Env[key] = value
		}
	}
	return event, true
}
