package upgrade

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/keelson-os/keelson/machined/host"
	"github.com/keelson-os/keelson/machined/host/entries"
	"github.com/keelson-os/keelson/machined/host/secureboot"
	"github.com/keelson-os/keelson/pkg/osbundle"
	"github.com/keelson-os/keelson/pkg/osdisk"
)

// Options of New.
type Options struct {
	OS  host.OS
	Log *slog.Logger
	// Partition returns the device node of one of the partitions of the disk that
	// the node was booted from, by its name.
	Partition func(name string) (node string, err error)
	// MountPoint is where the ESP is mounted; empty means the constant.
	MountPoint string
	// Slot is the one that runs.
	Slot osdisk.Slot
	// Running is the name of the running image.
	Running string
	// SecureBoot tells that the firmware verifies what it starts; the module of
	// package secureboot is to be loaded then.
	SecureBoot bool
}

// Upgrader keeps the slots of an installed node. One thing is done at a time.
type Upgrader struct {
	options Options
	now     func() time.Time

	// writing tells that an update is being written, which takes long.
	writing   atomic.Bool
	probation atomic.Bool
	// uncounted tells that META does not take that this update was booted.
	uncounted atomic.Bool

	mu     sync.Mutex // guards the record, the ESP and META
	record Record
}

// ErrBusy says that the slots are in use by another call.
var ErrBusy = errors.New("another update is under way: wait for its end")

// New takes the slots over, early in the boot: it finds out what became of the
// last update, which failed tells if it did, and tidies up after power cuts. An error
// leaves an Upgrader, which knows no more than what META remembers.
func New(options Options) (u *Upgrader, failed *Update, err error) {
	if options.MountPoint == "" {
		options.MountPoint = entries.MountPoint
	}
	u = &Upgrader{options: options, now: time.Now}
	record, err := u.readRecord()
	if err != nil {
		// It holds only history: nothing that is needed to go on.
		options.Log.Error("what META remembers of the last update cannot be read", "error", err)
	}
	s := state{booted: options.Slot, record: record}
	var v verdict
	err = u.esp(unix.MS_RDONLY, func(f entries.Folder) error {
		var err error
		s.entries, err = f.List()
		return err
	})
	if err != nil {
		u.judgeByRecord(record)
		return u, nil, err
	}
	v = s.judge()
	u.record = s.record
	u.probation.Store(v.probation)
	if v.failed != nil && v.failed.From == "" { // an image that was no update is given up
		v.failed.From, v.failed.Written = options.Running, u.now().UTC().Truncate(time.Second)
	}
	if v.changed {
		err = u.writeRecord()
	}
	if len(v.remove) > 0 && err == nil {
		err = u.esp(0, func(f entries.Folder) error { return f.Remove(v.remove) })
	}
	return u, v.failed, err
}

// judgeByRecord is what is left where the ESP cannot be read: an update that runs and
// is not known to be good is on probation. That its image cannot mount the ESP may be
// what is wrong with it.
func (u *Upgrader) judgeByRecord(record Record) {
	u.record = record
	last := record.Update
	if last == nil || last.Outcome != Pending || last.Slot != u.options.Slot {
		return
	}
	u.probation.Store(true)
	last.beginAttempt()
	if err := u.writeRecord(); err != nil {
		u.uncounted.Store(true)
		u.options.Log.Error("that this update was booted is not remembered", "error", err)
	}
}

// Counted tells whether the boot loader still counts the boots of the update that
// runs, as far as META knows: it counts down to none, and then boots another image.
func (u *Upgrader) Counted() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	last := u.record.Update
	return u.probation.Load() && !u.uncounted.Load() && last != nil && last.Slot == u.options.Slot && len(last.Attempts) <= tries
}

func (u *Upgrader) esp(flags uintptr, do func(entries.Folder) error) error {
	node, err := u.options.Partition(osdisk.ESP.Name)
	if err != nil {
		return err
	}
	return entries.WithESP(u.options.OS, node, u.options.MountPoint, flags, do)
}

func (u *Upgrader) meta(flag int, do func(*os.File) error) error {
	node, err := u.options.Partition(osdisk.Meta.Name)
	if err != nil {
		return err
	}
	file, err := os.OpenFile(node, flag, 0)
	if err != nil {
		return err
	}
	return errors.Join(do(file), file.Close())
}

func (u *Upgrader) readRecord() (record Record, err error) {
	err = u.meta(os.O_RDONLY, func(file *os.File) error {
		record, err = ReadRecord(file)
		return err
	})
	return record, err
}

func (u *Upgrader) writeRecord() error {
	return u.meta(os.O_RDWR, func(file *os.File) error { return WriteRecord(file, u.record) })
}

// OnProbation tells whether the running image has yet to be found healthy.
func (u *Upgrader) OnProbation() bool { return u.probation.Load() }

// Last is the last update; nil if there never was any.
func (u *Upgrader) Last() *Update {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.record.Update == nil {
		return nil
	}
	last := *u.record.Update
	return &last
}

// Waiting tells whether an update waits in the other slot for its first boot.
func (u *Upgrader) Waiting() bool {
	last := u.Last()
	return last != nil && last.Outcome == Pending && last.Slot != u.options.Slot
}

// Note remembers how far the boot of an image on probation got, for whoever is
// booted after it. On others it does nothing.
func (u *Upgrader) Note(reached string, problems []string) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	last := u.record.Update
	if !u.probation.Load() || last == nil || last.Outcome != Pending {
		return nil
	}
	last.note(reached, problems)
	return u.writeRecord()
}

// Bless ends the running image's probation: it is healthy.
func (u *Upgrader) Bless() error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if !u.probation.Load() {
		return nil
	}
	if err := u.changeOwn(func(own *osdisk.Entry) { own.Counted, own.Left, own.Done = false, 0, 0 }); err != nil {
		return err
	}
	u.probation.Store(false)
	if last := u.record.Update; last != nil && last.Slot == u.options.Slot {
		last.Outcome = Good
		return u.writeRecord()
	}
	return nil
}

// Condemn gives the running image's remaining tries up, for these problems. The
// error is entries.ErrNoOther when the other slot has nothing better.
func (u *Upgrader) Condemn(problems []string) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if !u.probation.Load() {
		return errors.New("the running image is not on probation")
	}
	err := u.changeOwn(func(own *osdisk.Entry) { own.Left = 0 })
	last := u.record.Update
	if last == nil {
		return err // META was lost: the entry's name decides
	}
	last.note(last.reached(), problems)
	return errors.Join(err, u.writeRecord())
}

// Abandon gives the running image up although it was found healthy, for what its
// root image on the disk has become. The error is entries.ErrNoOther when the other
// slot has nothing better.
func (u *Upgrader) Abandon(detail string) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	var own osdisk.Entry
	if err := u.changeOwn(func(entry *osdisk.Entry) {
		entries.Exhaust(entry)
		own = *entry
	}); err != nil {
		return err
	}
	last := u.record.Update
	if last != nil && last.Outcome == Pending && last.Slot != own.Slot {
		return nil // what is booted next is an update, which is what matters now
	}
	if last == nil || last.Slot != own.Slot || last.Generation != own.Generation {
		last = &Update{
			Generation: own.Generation, Slot: own.Slot, To: u.options.Running,
			From: "the image in slot " + string(own.Slot.Other()), Written: u.now().UTC().Truncate(time.Second),
		}
		u.record.Update = last
	}
	// The image in the other slot tells of it.
	last.Outcome, last.Why = Pending, damaged+": "+detail
	return u.writeRecord()
}

// changeOwn renames the running image's entry, if there is another to boot.
func (u *Upgrader) changeOwn(change func(*osdisk.Entry)) error {
	return u.esp(0, func(f entries.Folder) error {
		list, err := f.List()
		if err != nil {
			return err
		}
		s := state{entries: list, booted: u.options.Slot}
		own, known := entries.Of(s.entries, u.options.Slot)
		if !known {
			return errors.New("the running image has no boot entry")
		}
		changed := own
		change(&changed)
		if other, there := entries.Of(list, u.options.Slot.Other()); changed.Exhausted() && (!there || other.Exhausted()) {
			return entries.ErrNoOther
		}
		return f.Rename(own, changed)
	})
}

// Rollback has the image in the other slot booted next. An update that waits in
// there for its first boot is called off instead: what runs stays. It returns an
// error if there is no image that was ever healthy.
func (u *Upgrader) Rollback() (calledOff bool, err error) {
	if u.writing.Load() {
		return false, ErrBusy
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	last, slot := u.record.Update, u.options.Slot
	err = u.esp(0, func(f entries.Folder) error {
		list, err := f.List()
		if err != nil {
			return err
		}
		other, there := entries.Of(list, slot.Other())
		if !there {
			return errors.New("there is no image to go back to: the other slot is empty")
		}
		if last != nil && last.Outcome == Pending && last.Slot == other.Slot && last.Generation == other.Generation && !other.Exhausted() {
			calledOff = true
			return f.Remove(entries.AllOf(list, other.Slot))
		}
		if !other.Good() {
			return errors.New("the image in the other slot was never found healthy: install another one with osctl upgrade")
		}
		preferred := other
		preferred.Generation = entries.NextGeneration(list)
		return f.Rename(other, preferred)
	})
	if err != nil {
		return false, err
	}
	if calledOff || last != nil && last.Slot == slot && last.Outcome != Failed {
		last.Outcome = Undone
		err = u.writeRecord()
	}
	return calledOff, err
}

// Write writes a bundle to the slot that does not run, and makes it the one that
// is booted next, on probation. Cut short, it leaves that slot without an entry:
// the running image is booted again.
func (u *Upgrader) Write(ctx context.Context, bundle *osbundle.Reader, progress func(done, total int64)) error {
	if !u.writing.CompareAndSwap(false, true) {
		return ErrBusy
	}
	defer u.writing.Store(false)
	u.mu.Lock()
	defer u.mu.Unlock()
	slot := u.options.Slot.Other()
	kernel, root, content, err := readKernel(ctx, slot, bundle)
	if err != nil {
		return err
	}
	if u.options.SecureBoot {
		if err := u.checkSigned(kernel); err != nil {
			return fmt.Errorf("the bundle's kernel image: %w", err)
		}
	}
	err = u.esp(0, func(f entries.Folder) error {
		list, err := f.List()
		if err != nil {
			return err
		}
		other, there := entries.Of(list, slot)
		good := there && !other.Exhausted()
		if own, _ := entries.Of(list, u.options.Slot); good && own.Exhausted() {
			return errors.New("the running image was given up, and the one in the other slot is needed: wait until the node has restarted with it")
		}
		// Where there is nothing to go back to, an update may be the cure.
		if u.probation.Load() && good {
			return errors.New("the running image is on probation itself: wait until it is healthy, or go back with osctl rollback")
		}
		return f.Remove(entries.AllOf(list, slot))
	})
	if err != nil {
		return err
	}
	if last := u.record.Update; last != nil && last.Outcome == Pending && last.Slot == slot { // it never was booted
		last.Outcome = Undone
		if err := u.writeRecord(); err != nil {
			return err
		}
	}
	if err := u.writeRoot(slot, root, content, progress); err != nil {
		return err
	}
	return u.esp(0, func(f entries.Folder) error {
		list, err := f.List()
		if err != nil {
			return err
		}
		entry := osdisk.Entry{Generation: entries.NextGeneration(list), Slot: slot, Counted: true, Left: tries}
		u.record.Update = &Update{
			Generation: entry.Generation, Slot: slot, From: u.options.Running, To: bundle.Manifest.Name(),
			Written: u.now().UTC().Truncate(time.Second), Outcome: Pending,
		}
		if err := u.writeRecord(); err != nil {
			return err
		}
		if err := f.Add(entry, kernel); err != nil {
			// It may have become an entry before it failed.
			u.record.Update.Outcome, u.record.Update.Why = Failed, err.Error()
			return errors.Join(err, f.Remove([]osdisk.Entry{entry}), u.writeRecord())
		}
		return nil
	})
}

// maxKernel bounds what is held in memory of a bundle, in bytes.
const maxKernel = 128 << 20

// readKernel reads what comes before the root image, which is next then: what is
// wrong with it costs the other slot nothing.
func readKernel(ctx context.Context, slot osdisk.Slot, bundle *osbundle.Reader) (kernel []byte, root osbundle.Part, content io.Reader, err error) {
	for {
		part, content, err := bundle.Next()
		if errors.Is(err, io.EOF) {
			return nil, part, nil, errors.New("the bundle has no root image")
		}
		if err != nil {
			return nil, part, nil, err
		}
		content = stopping{ctx, content}
		switch part.Name {
		case osbundle.Root:
			if size := slot.Root().Size; part.Size > int64(size) {
				return nil, part, nil, fmt.Errorf("the bundle's root image has %d MiB, and a slot %d", part.Size>>20, size>>20)
			}
			return kernel, part, content, nil
		case osbundle.Kernel:
			if part.Size > maxKernel {
				return nil, part, nil, fmt.Errorf("the bundle's kernel has %d MiB: at most %d are taken", part.Size>>20, maxKernel>>20)
			}
			if kernel, err = io.ReadAll(content); err != nil {
				return nil, part, nil, err
			}
		default:
			// The boot loader is not replaced: nothing could go back to the old one.
			if _, err := io.Copy(io.Discard, content); err != nil {
				return nil, part, nil, err
			}
		}
	}
}

// checkSigned tells whether the firmware would start a kernel image. One that it
// would not costs each of its tries a stay in the firmware, and on many machines
// somebody's walk there.
func (u *Upgrader) checkSigned(kernel []byte) error {
	trust, err := secureboot.Firmware(u.options.OS)
	if err != nil {
		u.options.Log.Warn("the firmware's own keys are not known: what signed the running image counts alone", "error", err)
		trust = &secureboot.Trust{}
	}
	err = u.esp(unix.MS_RDONLY, func(f entries.Folder) error {
		list, err := f.List()
		if err != nil {
			return err
		}
		own, known := entries.Of(list, u.options.Slot)
		if !known {
			return nil
		}
		running, err := os.Open(f.Path(own))
		if err != nil {
			return err
		}
		defer running.Close()
		return trust.Add(running)
	})
	if err != nil {
		u.options.Log.Warn("what signed the running image is not known", "error", err)
	}
	return trust.Check(bytes.NewReader(kernel))
}

func (u *Upgrader) writeRoot(slot osdisk.Slot, part osbundle.Part, content io.Reader, progress func(done, total int64)) error {
	partition := slot.Root()
	node, err := u.options.Partition(partition.Name)
	if err != nil {
		return err
	}
	// Exclusive: nothing that is mounted is overwritten.
	device, err := os.OpenFile(node, os.O_RDWR|unix.O_EXCL, 0)
	if err != nil {
		return fmt.Errorf("open the slot %s: %w", partition.Name, err)
	}
	defer device.Close()
	flush := func() error { return errors.Join(device.Sync(), unix.IoctlSetInt(int(device.Fd()), unix.BLKFLSBUF, 0)) }
	if err := osdisk.CopyVerified(device, 0, content, part.Size, flush, progress); err != nil {
		return fmt.Errorf("write the root image to %s: %w", partition.Name, err)
	}
	// Only the end of the content tells whether it was the right one.
	_, err = io.Copy(io.Discard, content)
	return err
}

// stopping ends a reader with its context.
type stopping struct {
	ctx  context.Context
	from io.Reader
}

func (s stopping) Read(b []byte) (int, error) {
	if err := s.ctx.Err(); err != nil {
		return 0, err
	}
	return s.from.Read(b)
}

// ErrCounted says that the entry that is booted next is on probation.
var ErrCounted = errors.New("the next image is on probation, so that the boot loader has to count its boot")

// Next opens the kernel image of the entry that is booted next, for as long as use
// runs. The error is ErrCounted if only the boot loader may start it.
func (u *Upgrader) Next(use func(*os.File) error) error {
	if u.writing.Load() {
		return ErrBusy
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.esp(unix.MS_RDONLY, func(f entries.Folder) error {
		list, err := f.List()
		if err != nil {
			return err
		}
		next, ok := entries.Chosen(list)
		if !ok {
			return errors.New("there is no boot entry")
		}
		if !next.Good() {
			return ErrCounted
		}
		file, err := os.Open(f.Path(next))
		if err != nil {
			return err
		}
		return errors.Join(use(file), file.Close())
	})
}

// Entries are the slots' boot entries, and the one that is booted next.
func (u *Upgrader) Entries() (slots map[osdisk.Slot]osdisk.Entry, next osdisk.Entry, err error) {
	if u.writing.Load() {
		return nil, osdisk.Entry{}, ErrBusy
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	slots = map[osdisk.Slot]osdisk.Entry{}
	err = u.esp(unix.MS_RDONLY, func(f entries.Folder) error {
		list, err := f.List()
		if err != nil {
			return err
		}
		s := state{entries: list}
		for _, entry := range list {
			if own, _ := entries.Of(s.entries, entry.Slot); own == entry {
				slots[entry.Slot] = entry
			}
		}
		next, _ = entries.Chosen(list)
		return nil
	})
	return slots, next, err
}
