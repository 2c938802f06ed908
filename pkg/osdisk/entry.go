package osdisk

import (
	"fmt"
	"regexp"
	"strconv"
)

// EntriesFolder is where systemd-boot looks for unified kernel images, below the
// ESP's root.
const EntriesFolder = "EFI/Linux"

// Slot is one of the two places of an OS image.
type Slot string

// The slots.
const (
	SlotA Slot = "a"
	SlotB Slot = "b"
)

// Other is the slot that this one is not.
func (s Slot) Other() Slot {
	if s == SlotA {
		return SlotB
	}
	return SlotA
}

// Root is the partition of the slot's root image.
func (s Slot) Root() Partition {
	if s == SlotA {
		return RootA
	}
	return RootB
}

// Entry is a boot entry, as its file's name tells it: a slot's kernel image in
// EntriesFolder. All that decides which slot is booted is in these names, so that
// one rename changes it.
type Entry struct {
	// Generation orders the entries: the loader takes the highest that has tries
	// left. It is in front of the name since the loader compares names when, as
	// here, the images themselves claim no version.
	Generation uint64
	Slot       Slot
	// Counted tells that the entry is on probation: the loader takes one of Left
	// and adds it to Done at each boot (systemd.io/AUTOMATIC_BOOT_ASSESSMENT).
	// Without any left, the entry comes after all others.
	Counted    bool
	Left, Done int
}

var entryName = regexp.MustCompile(`^keelson-([0-9]{1,19})-([ab])(?:\+([0-9]{1,4})(?:-([0-9]{1,4}))?)?\.efi$`)

// ParseEntry reads a file's name; ok is false for what is none of ours.
func ParseEntry(name string) (e Entry, ok bool) {
	match := entryName.FindStringSubmatch(name)
	if match == nil {
		return Entry{}, false
	}
	generation, err := strconv.ParseUint(match[1], 10, 64)
	if err != nil {
		return Entry{}, false
	}
	e = Entry{Generation: generation, Slot: Slot(match[2]), Counted: match[3] != ""}
	e.Left, _ = strconv.Atoi(match[3]) // digits or nothing, by the pattern
	e.Done, _ = strconv.Atoi(match[4])
	return e, true
}

// FileName is the entry's file name.
func (e Entry) FileName() string {
	name := fmt.Sprintf("keelson-%d-%s", e.Generation, e.Slot)
	switch {
	case e.Counted && e.Done > 0:
		name += fmt.Sprintf("+%d-%d", e.Left, e.Done)
	case e.Counted:
		name += fmt.Sprintf("+%d", e.Left)
	}
	return name + ".efi"
}

// Good tells that the entry's image was found healthy once.
func (e Entry) Good() bool { return !e.Counted }

// Exhausted tells that the entry used up its tries.
func (e Entry) Exhausted() bool { return e.Counted && e.Left == 0 }
