package upgrade

import (
	"cmp"
	"slices"

	"github.com/keelson-os/keelson/pkg/osdisk"
)

// damaged is why an image that was healthy is given up.
const damaged = "its root image on the disk is damaged"

// tries is how often an update is booted before it is given up.
const tries = 3

// state is what the ESP's names and META say together, at a boot.
type state struct {
	entries []osdisk.Entry
	booted  osdisk.Slot
	record  Record
}

// verdict is what follows from a state, before anything of the boot is known.
type verdict struct {
	// probation tells that the running image has not been found healthy yet.
	probation bool
	// changed tells that the record is to be written.
	changed bool
	// failed is an update that this boot found to have failed; its entries are to
	// be removed.
	failed *Update
	// remove are entries that nothing may boot any more.
	remove []osdisk.Entry
}

// judge finds out what became of the last update, and of the image in the other
// slot. It changes the record.
func (s *state) judge() verdict {
	var v verdict
	running, known := s.entryOf(s.booted)
	v.probation = known && !running.Good()
	s.judgeUpdate(&v, running, known)
	if known && running.Good() {
		s.judgeOther(&v)
	}
	return v
}

// judgeUpdate finds out what became of an update that is not known to be good.
func (s *state) judgeUpdate(v *verdict, running osdisk.Entry, known bool) {
	u := s.record.Update
	if u == nil || u.Outcome != Pending {
		return
	}
	if u.Slot == s.booted && known && running.Generation == u.Generation {
		v.changed = true
		if running.Good() { // a power cut came between the entry's blessing and the record's
			u.Outcome = Good
			return
		}
		u.beginAttempt()
		return
	}
	written, there := s.entryOf(u.Slot)
	switch {
	case !there || written.Generation != u.Generation:
		u.Outcome, u.Why = Failed, "its boot entry is gone"
	case written.Exhausted():
		u.Outcome, u.Why = Failed, cmp.Or(u.Why, u.explain(written.Done))
		if known { // else it is all there is
			v.remove = s.entriesOf(u.Slot)
		}
	default:
		return // it is still to be tried
	}
	v.changed, v.failed = true, u
}

// judgeOther finds out whether the image in the other slot was healthy once and
// cannot be started any more: GiveUp has marked it.
func (s *state) judgeOther(v *verdict) {
	u := s.record.Update
	other, there := s.entryOf(s.booted.Other())
	if !there || !other.Exhausted() || u != nil && u.Outcome == Pending {
		return
	}
	v.remove = s.entriesOf(other.Slot)
	if u == nil || u.Slot != other.Slot || u.Generation != other.Generation {
		u = &Update{Generation: other.Generation, Slot: other.Slot, To: "the image in slot " + string(other.Slot)}
	}
	if v.failed == nil && u.Outcome != Failed {
		u.Outcome, u.Why = Failed, damaged
		s.record.Update, v.changed, v.failed = u, true, u
	}
}

// entryOf is a slot's entry: of several, as a power cut during a rename may leave
// them, the newest.
func (s *state) entryOf(slot osdisk.Slot) (osdisk.Entry, bool) {
	var found osdisk.Entry
	ok := false
	for _, e := range s.entries {
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

// entriesOf are all entries of a slot. FAT has no journal: a rename that was cut
// short leaves two names of one file. Both are to go or none: the one that stays
// would be a file without content.
func (s *state) entriesOf(slot osdisk.Slot) (list []osdisk.Entry) {
	for _, e := range s.entries {
		if e.Slot == slot {
			list = append(list, e)
		}
	}
	return list
}

// nextGeneration is that of an entry that is to be preferred to all others.
func nextGeneration(entries []osdisk.Entry) uint64 {
	var highest uint64
	for _, e := range entries {
		highest = max(highest, e.Generation)
	}
	return highest + 1
}

// chosen is the entry that the loader takes next, as it orders them: those with
// tries left first, and then by generation.
func chosen(entries []osdisk.Entry) (osdisk.Entry, bool) {
	if len(entries) == 0 {
		return osdisk.Entry{}, false
	}
	return slices.MinFunc(entries, func(a, b osdisk.Entry) int {
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
