package upgrade

import (
	"cmp"

	"github.com/keelson-os/keelson/machined/host/entries"
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
	running, known := entries.Of(s.entries, s.booted)
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
	written, there := entries.Of(s.entries, u.Slot)
	switch {
	case !there || written.Generation != u.Generation:
		u.Outcome, u.Why = Failed, cmp.Or(u.Why, "its boot entry is gone")
	case written.Exhausted():
		u.Outcome, u.Why = Failed, cmp.Or(u.Why, u.explain(written.Done))
		if known && running.Good() { // else it may be all that there is
			v.remove = entries.AllOf(s.entries, u.Slot)
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
	other, there := entries.Of(s.entries, s.booted.Other())
	if !there || !other.Exhausted() || u != nil && u.Outcome == Pending {
		return
	}
	v.remove = entries.AllOf(s.entries, other.Slot)
	if u == nil || u.Slot != other.Slot || u.Generation != other.Generation {
		u = &Update{Generation: other.Generation, Slot: other.Slot, To: "the image in slot " + string(other.Slot)}
	}
	if v.failed == nil && u.Outcome != Failed {
		u.Outcome, u.Why = Failed, damaged
		s.record.Update, v.changed, v.failed = u, true, u
	}
}
