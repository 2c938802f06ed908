package entries

import (
	"slices"

	"github.com/keelson-os/keelson/pkg/osdisk"
)

// Of is a slot's entry: of several, as a power cut during a rename may leave
// them, the newest.
func Of(list []osdisk.Entry, slot osdisk.Slot) (osdisk.Entry, bool) {
	var found osdisk.Entry
	ok := false
	for _, e := range list {
		if e.Slot == slot && (!ok || newer(e, found)) {
			found, ok = e, true
		}
	}
	return found, ok
}

// newer orders two entries of one slot: a rename's new name wins, which has a
// higher generation, no counter any more, or one that counted further.
func newer(a, b osdisk.Entry) bool {
	switch {
	case a.Generation != b.Generation:
		return a.Generation > b.Generation
	case a.Good() != b.Good():
		return a.Good()
	}
	return a.Done > b.Done
}

// AllOf are all entries of a slot. FAT has no journal: a rename that was cut
// short leaves two names of one file. Both are to go or none: the one that stays
// would be a file without content.
func AllOf(list []osdisk.Entry, slot osdisk.Slot) (own []osdisk.Entry) {
	for _, e := range list {
		if e.Slot == slot {
			own = append(own, e)
		}
	}
	return own
}

// NextGeneration is that of an entry that is to be preferred to all others.
func NextGeneration(list []osdisk.Entry) uint64 {
	var highest uint64
	for _, e := range list {
		highest = max(highest, e.Generation)
	}
	return highest + 1
}

// Chosen is the entry that the loader takes next, as it orders them: those with
// tries left first, and then by generation.
func Chosen(list []osdisk.Entry) (osdisk.Entry, bool) {
	if len(list) == 0 {
		return osdisk.Entry{}, false
	}
	return slices.MinFunc(list, func(a, b osdisk.Entry) int {
		switch {
		case a.Exhausted() != b.Exhausted():
			if a.Exhausted() {
				return 1
			}
			return -1
		case a.Generation > b.Generation:
			return -1
		case a.Generation < b.Generation:
			return 1
		}
		return 0
	}), true
}
