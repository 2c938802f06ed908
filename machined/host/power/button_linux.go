package power

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// The kernel's ACPI events, from drivers/acpi/event.c. The button's come from
// the module button, which the device itself asks for.
const (
	family         = "acpi_event"
	group          = "acpi_mc_group"
	eventAttribute = 1 // ACPI_GENL_ATTR_EVENT
	classSize      = 20
	powerButton    = "button/power"
)

// ErrNoACPI says that this kernel or machine has no ACPI, and so no button.
var ErrNoACPI = errors.New("no ACPI events")

// Button listens for the power button.
type Button struct{ socket *os.File }

// Listen starts to listen; what is pressed from now on is queued.
func Listen() (*Button, error) {
	known, err := netlink.GenlFamilyGet(family)
	if errors.Is(err, unix.ENOENT) {
		return nil, ErrNoACPI
	}
	if err != nil {
		return nil, fmt.Errorf("look for the ACPI events: %w", err)
	}
	at := slices.IndexFunc(known.Groups, func(g netlink.GenlMulticastGroup) bool { return g.Name == group })
	if at < 0 {
		return nil, ErrNoACPI
	}
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_GENERIC)
	if err != nil {
		return nil, fmt.Errorf("open the socket for ACPI events: %w", err)
	}
	err = unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
	if err == nil {
		err = unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_ADD_MEMBERSHIP, int(known.Groups[at].ID))
	}
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("listen for ACPI events: %w", err)
	}
	return &Button{os.NewFile(uintptr(fd), "ACPI events")}, nil
}

// Close stops listening.
func (b *Button) Close() error { return b.socket.Close() }

// Wait returns nil once the button was pressed, or ctx's error.
func (b *Button) Wait(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { _ = b.socket.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	buffer := make([]byte, 4096)
	for {
		n, err := b.socket.Read(buffer)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, unix.ENOBUFS):
			continue // some events were lost; who waits for the machine presses again
		case err != nil:
			return fmt.Errorf("read ACPI events: %w", err)
		}
		if pressed(buffer[:n]) {
			return nil
		}
	}
}

// pressed tells whether a datagram holds a press of the power button: a netlink
// header, a generic one, and as attribute a struct acpi_genl_event, which begins
// with the device's class.
func pressed(datagram []byte) bool {
	messages, err := syscall.ParseNetlinkMessage(datagram)
	if err != nil {
		return false
	}
	for _, message := range messages {
		const genericHeader, attributeHeader = 4, unix.SizeofNlAttr
		if len(message.Data) < genericHeader+attributeHeader+classSize {
			continue
		}
		attribute := message.Data[genericHeader:]
		class, _, _ := strings.Cut(string(attribute[attributeHeader:attributeHeader+classSize]), "\x00")
		if binary.NativeEndian.Uint16(attribute[2:]) == eventAttribute && class == powerButton {
			return true
		}
	}
	return false
}
