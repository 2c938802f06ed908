package power

import (
	"context"
	"encoding/binary"
	"errors"
	"testing"
)

// event is a datagram as acpi_bus_generate_netlink_event sends it.
func event(class string) []byte {
	payload := make([]byte, 44) // struct acpi_genl_event: class, bus, type, data
	copy(payload, class)
	copy(payload[20:], "LNXPWRBN:00")
	binary.NativeEndian.PutUint32(payload[36:], 0x80)
	var b []byte
	b = binary.NativeEndian.AppendUint32(b, uint32(16+4+4+len(payload)))
	b = binary.NativeEndian.AppendUint16(b, 0x17) // the family
	b = append(b, make([]byte, 10)...)            // flags, sequence, sender
	b = append(b, 1, 1, 0, 0)                     // ACPI_GENL_CMD_EVENT, version
	b = binary.NativeEndian.AppendUint16(b, uint16(4+len(payload)))
	b = binary.NativeEndian.AppendUint16(b, eventAttribute)
	return append(b, payload...)
}

func TestPressed(t *testing.T) {
	if !pressed(event("button/power")) {
		t.Error("the power button was not recognized")
	}
	whole := event("button/power")
	for name, datagram := range map[string][]byte{
		"a lid": event("button/lid"), "a longer class": event("button/powerful"), "nothing": nil, "cut short": whole[:30],
	} {
		if pressed(datagram) {
			t.Errorf("%s was taken for the power button", name)
		}
	}
}

func TestWaitEndsWithItsContext(t *testing.T) {
	button, err := Listen()
	if errors.Is(err, ErrNoACPI) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer button.Close()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := button.Wait(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("error: %v", err)
	}
}
