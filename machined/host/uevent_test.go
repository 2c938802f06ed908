package host

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// As the kernel sent it for a virtio disk's partition.
const addPartition = "add@/devices/pci0000:00/0000:00:02.0/virtio0/block/vda/vda1\x00ACTION=add\x00" +
	"DEVPATH=/devices/pci0000:00/0000:00:02.0/virtio0/block/vda/vda1\x00SUBSYSTEM=block\x00MAJOR=254\x00MINOR=1\x00" +
	"DEVNAME=vda1\x00DEVTYPE=partition\x00PARTN=1\x00PARTNAME=STATE\x00SEQNUM=1042\x00"

func TestParseUevent(t *testing.T) {
	event, ok := ParseUevent(addPartition)
	if !ok || event.Action != "add" || event.DevPath != "/devices/pci0000:00/0000:00:02.0/virtio0/block/vda/vda1" {
		t.Errorf("%+v, %v", event, ok)
	}
	if event.Env["PARTNAME"] != "STATE" || event.Env["DEVNAME"] != "vda1" {
		t.Errorf("environment: %v", event.Env)
	}
	for _, message := range []string{"", "libudev\x00\xfe\xed\xca\xfe", "@/x", "add@", "add"} {
		if event, ok := ParseUevent(message); ok {
			t.Errorf("%q gave %+v", message, event)
		}
	}
}

func FuzzParseUevent(f *testing.F) {
	f.Add(addPartition)
	f.Fuzz(func(t *testing.T, message string) {
		if event, ok := ParseUevent(message); ok && (event.Action == "" || event.DevPath[0] != '/') {
			t.Errorf("%q gave %+v", message, event)
		}
	})
}

func TestWaitUntil(t *testing.T) {
	events := []error{nil, ErrUeventsLost, nil}
	next := func(context.Context) (Uevent, error) {
		if len(events) == 0 {
			return Uevent{}, context.DeadlineExceeded
		}
		err := events[0]
		events = events[1:]
		return Uevent{}, err
	}
	looks := 0
	readyAt := func(n int) func() (bool, error) {
		return func() (bool, error) { looks++; return looks == n, nil }
	}
	if err := waitUntil(t.Context(), next, readyAt(3)); err != nil || looks != 3 {
		t.Errorf("%d looks, %v", looks, err)
	}
	if err := waitUntil(t.Context(), next, readyAt(100)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a device that never comes: %v", err)
	}
	broken := errors.New("broken")
	if err := waitUntil(t.Context(), next, func() (bool, error) { return false, broken }); !errors.Is(err, broken) {
		t.Errorf("a failing look: %v", err)
	}
}

// A disk whose first read failed is looked at again although nothing happens.
func TestWaitUntilLooksAgainWithoutAnEvent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		never := func(ctx context.Context) (Uevent, error) {
			<-ctx.Done()
			return Uevent{}, ctx.Err()
		}
		looks := 0
		ready := func() (bool, error) { looks++; return looks == 3, nil }
		if err := waitUntil(t.Context(), never, ready); err != nil {
			t.Error(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := waitUntil(ctx, never, func() (bool, error) { return false, nil }); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a device that never comes: %v", err)
		}
	})
}

func TestListenUevents(t *testing.T) {
	uevents, err := ListenUevents()
	if err != nil {
		t.Skip("no uevents here: ", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if diff := cmp.Diff(context.Canceled.Error(), errorText(uevents.Next(ctx))); diff != "" {
		t.Error(diff)
	}
	if err := uevents.Close(); err != nil {
		t.Error(err)
	}
	if _, err := uevents.Next(t.Context()); err == nil {
		t.Error("a closed listener gave an event")
	}
}

func errorText(_ Uevent, err error) string { return err.Error() }
