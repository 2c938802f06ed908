package entries

import (
	"bytes"
	"errors"
	"fmt"
	"os"

	"github.com/keelson-os/keelson/machined/host"
	"github.com/keelson-os/keelson/pkg/osdisk"
)

// Exhaust takes an entry's tries away, so that the loader prefers any other.
func Exhaust(entry *osdisk.Entry) {
	entry.Counted, entry.Left, entry.Done = true, 0, entry.Done+1
}

// ErrCounted says that a restart is all that it takes: the boot loader counts the
// boots of what was booted, or will choose another entry by itself.
var ErrCounted = errors.New("the boot loader goes on to another image by itself")

// ErrNoOther says that there is no other image to go back to.
var ErrNoOther = errors.New("there is no other image on the disk")

// GiveUp is for stage 1 of the boot, when the root image with a hash cannot be
// started. The entry that was booted is counted if it is on probation; one that
// was found healthy is marked here, so that the other slot is booted next, and
// tells of it. node is the ESP, which is mounted at mountPoint meanwhile.
func GiveUp(machine host.OS, node, mountPoint, rootHash string) (given osdisk.Entry, err error) {
	err = WithESP(machine, node, mountPoint, 0, func(f Folder) error {
		list, err := f.List()
		if err != nil {
			return err
		}
		booted, ok := Chosen(list)
		switch {
		case !ok || booted.Exhausted():
			return ErrNoOther
		case !booted.Good():
			return ErrCounted
		}
		// The loader has counted since it chose: what it would choose now need not be
		// what was booted.
		kernel, err := os.ReadFile(f.Path(booted))
		if err != nil {
			return fmt.Errorf("read the boot entry: %w", err)
		}
		if !bytes.Contains(kernel, []byte(rootHash)) {
			return ErrCounted
		}
		if other, there := Of(list, booted.Slot.Other()); !there || other.Exhausted() {
			return ErrNoOther
		}
		given = booted
		Exhaust(&given)
		return f.Rename(booted, given)
	})
	return given, err
}
