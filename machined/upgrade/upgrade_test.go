package upgrade

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"golang.org/x/sys/unix"

	"github.com/keelson-os/keelson/machined/host"
	"github.com/keelson-os/keelson/machined/host/entries"
	"github.com/keelson-os/keelson/machined/host/hosttest"
	"github.com/keelson-os/keelson/pkg/osbundle"
	"github.com/keelson-os/keelson/pkg/osdisk"
)

func TestMain(m *testing.M) { hosttest.Main(m) }

// partitions are a disk's, each as a loop device of its own: not every kernel
// that tests run on knows GPTs. "image" is the file that they are in.
type partitions map[string]string

// installedDisk makes a disk with an installed system. The test is skipped where
// that cannot be had.
func installedDisk(t *testing.T) partitions {
	t.Helper()
	disk, err := os.Create(filepath.Join(t.TempDir(), "disk"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { disk.Close() })
	if err := disk.Truncate(osdisk.MinSize); err != nil {
		t.Fatal(err)
	}
	table := osdisk.NewTable(osdisk.MinSize, 512)
	all := partitions{"image": disk.Name()}
	for _, p := range []osdisk.Partition{osdisk.Meta, osdisk.RootA, osdisk.RootB} {
		all[p.Name] = hosttest.LoopDevice(t, disk, p.Find(table).Start*512, p.Size, 0)
	}
	// Neither does each know FAT: the ESP is a small file system in memory.
	all[osdisk.ESP.Name] = t.TempDir()
	if err := unix.Mount("esp", all[osdisk.ESP.Name], "tmpfs", 0, "size=2m"); err != nil {
		t.Skip("nothing can be mounted here: ", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(all[osdisk.ESP.Name], 0); err != nil {
			t.Error(err)
		}
	})
	entries := filepath.Join(all[osdisk.ESP.Name], osdisk.EntriesFolder)
	if err := os.MkdirAll(entries, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(entries, "keelson-1-a.efi"), []byte("kernel 1"), 0o600); err != nil {
		t.Fatal(err)
	}
	return all
}

// mounted is an OS on which the ESP is mounted for good.
type mounted struct{ host.Linux }

func (mounted) Mount(string, string, string, uintptr, string) error { return nil }
func (mounted) Unmount(string, int) error                           { return nil }

// options are those of a boot of a slot.
func options(t *testing.T, disk partitions, slot osdisk.Slot) Options {
	return Options{
		OS: mounted{}, MountPoint: disk[osdisk.ESP.Name], Log: slog.New(slog.NewTextHandler(t.Output(), nil)), Slot: slot, Running: "v1",
		Partition: func(name string) (string, error) { return disk[name], nil },
	}
}

// boot is what machined does early in a boot of a slot.
func boot(t *testing.T, disk partitions, slot osdisk.Slot) (*Upgrader, *Update) {
	t.Helper()
	u, failed, err := New(options(t, disk, slot))
	if err != nil {
		t.Fatal(err)
	}
	u.now = func() time.Time { return time.Unix(1767225600, 0) }
	return u, failed
}

var key = ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, ed25519.SeedSize))

func bundle(t *testing.T, name string) []byte {
	t.Helper()
	dir, files := t.TempDir(), map[string]string{}
	for part, content := range map[string]string{osbundle.Loader: "loader", osbundle.Kernel: "kernel " + name, osbundle.Root: strings.Repeat("root "+name, 1<<18)} {
		files[part] = filepath.Join(dir, part)
		if err := os.WriteFile(files[part], []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var b bytes.Buffer
	if err := osbundle.Write(&b, osbundle.Manifest{Version: "v2", Build: name, Architecture: "amd64"}, files, key, time.Unix(0, 0)); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func read(t *testing.T, content []byte) *osbundle.Reader {
	t.Helper()
	r, err := osbundle.NewReader(bytes.NewReader(content), []ed25519.PublicKey{key.Public().(ed25519.PublicKey)})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// names lists the boot entries.
func names(t *testing.T, u *Upgrader) string {
	t.Helper()
	var all []string
	err := u.esp(unix.MS_RDONLY, func(entries.Folder) error {
		files, err := os.ReadDir(filepath.Join(u.options.MountPoint, osdisk.EntriesFolder))
		for _, f := range files {
			all = append(all, f.Name())
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(all, " ")
}

// count does what the boot loader does before it starts an entry.
func count(t *testing.T, u *Upgrader, slot osdisk.Slot) {
	t.Helper()
	err := u.esp(0, func(f entries.Folder) error {
		list, err := f.List()
		if err != nil {
			return err
		}
		own, _ := entries.Of(list, slot)
		counted := own
		counted.Left, counted.Done = own.Left-1, own.Done+1
		return f.Rename(own, counted)
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestAGoodUpdate(t *testing.T) {
	disk := installedDisk(t)
	u, _ := boot(t, disk, osdisk.SlotA)
	if u.OnProbation() || u.Last() != nil {
		t.Error("a new installation is on probation")
	}
	var told int64
	if err := u.Write(t.Context(), read(t, bundle(t, "2")), func(done, _ int64) { told = done }); err != nil {
		t.Fatal(err)
	}
	if got := names(t, u); got != "keelson-1-a.efi keelson-2-b+3.efi" || told != 6<<18 {
		t.Errorf("entries %s, %d bytes told", got, told)
	}
	checkSlot(t, disk, strings.Repeat("root 2", 1<<18))
	count(t, u, osdisk.SlotB)
	u, failed := boot(t, disk, osdisk.SlotB)
	if !u.OnProbation() || failed != nil {
		t.Errorf("on probation: %v, failed %+v", u.OnProbation(), failed)
	}
	if err := u.Write(t.Context(), read(t, bundle(t, "3")), nil); err == nil || !strings.Contains(err.Error(), "probation") {
		t.Errorf("an update on probation: %v", err)
	}
	if err := errors.Join(u.Note("network", nil), u.Bless()); err != nil {
		t.Fatal(err)
	}
	if got := names(t, u); got != "keelson-1-a.efi keelson-2-b.efi" || u.OnProbation() || u.Last().Outcome != Good {
		t.Errorf("blessed: entries %s, %+v", got, u.Last())
	}
	// And back, and on again.
	if _, err := u.Rollback(); err != nil {
		t.Fatal(err)
	}
	if got := names(t, u); got != "keelson-2-b.efi keelson-3-a.efi" || u.Last().Outcome != Undone {
		t.Errorf("undone: entries %s, %+v", got, u.Last())
	}
	u, failed = boot(t, disk, osdisk.SlotA)
	if u.OnProbation() || failed != nil {
		t.Errorf("after the rollback: %v, %+v", u.OnProbation(), failed)
	}
	if err := u.Write(t.Context(), read(t, bundle(t, "4")), nil); err != nil {
		t.Fatal(err)
	}
	if got := names(t, u); got != "keelson-3-a.efi keelson-4-b+3.efi" {
		t.Errorf("the next update: entries %s", got)
	}
}

// checkSlot compares the beginning of slot B.
func checkSlot(t *testing.T, disk partitions, want string) {
	t.Helper()
	f, err := os.Open(disk[osdisk.RootB.Name])
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	got := make([]byte, len(want))
	if _, err := f.ReadAt(got, 0); err != nil || string(got) != want {
		t.Errorf("slot B begins with %.20q: %v", got, err)
	}
}

func TestAnUpdateThatFailsIsToldOfAndTheNextOneWorks(t *testing.T) {
	disk := installedDisk(t)
	u, _ := boot(t, disk, osdisk.SlotA)
	if _, err := u.Rollback(); err == nil || !strings.Contains(err.Error(), "empty") {
		t.Errorf("a rollback to nothing: %v", err)
	}
	if err := u.Write(t.Context(), read(t, bundle(t, "2")), nil); err != nil {
		t.Fatal(err)
	}
	count(t, u, osdisk.SlotB)
	bad, _ := boot(t, disk, osdisk.SlotB)
	if err := errors.Join(bad.Note("kubernetes", nil), bad.Condemn([]string{"kubelet: broken"})); err != nil {
		t.Fatal(err)
	}
	if got := names(t, bad); got != "keelson-1-a.efi keelson-2-b+0-1.efi" {
		t.Errorf("condemned: entries %s", got)
	}
	u, failed := boot(t, disk, osdisk.SlotA)
	if failed == nil || !strings.Contains(failed.Why, "in one boot; the last one got as far as the end of phase kubernetes, with: kubelet: broken") || u.Last().Outcome != Failed {
		t.Errorf("told of %+v", failed)
	}
	if got := names(t, u); got != "keelson-1-a.efi" {
		t.Errorf("afterwards: entries %s", got)
	}
	if _, failed := boot(t, disk, osdisk.SlotA); failed != nil {
		t.Error("told of again")
	}
	if err := u.Write(t.Context(), read(t, bundle(t, "3")), nil); err != nil {
		t.Fatal(err)
	}
	if got := names(t, u); got != "keelson-1-a.efi keelson-2-b+3.efi" {
		t.Errorf("the next update: entries %s", got)
	}
}

// Where the firmware verifies what it starts, what nobody signed is refused before
// it costs the other slot anything.
func TestAnUnsignedUpdateIsRefusedUnderSecureBoot(t *testing.T) {
	disk, healthy := healthyUpdate(t)
	before := names(t, healthy)
	o := options(t, disk, osdisk.SlotB)
	o.OS, o.SecureBoot = keyless{}, true
	u, _, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	if err := u.Write(t.Context(), read(t, bundle(t, "3")), nil); err == nil || !strings.Contains(err.Error(), "no UEFI program") {
		t.Errorf("written: %v", err)
	}
	if got := names(t, u); got != before {
		t.Errorf("entries %s, and before %s", got, before)
	}
}

// keyless is an OS whose firmware tells nothing of its keys.
type keyless struct{ mounted }

func (keyless) Root() fs.FS { return fstest.MapFS{} }

// unmountable is an OS without a driver for the ESP.
type unmountable struct{ mounted }

func (unmountable) Mount(string, string, string, uintptr, string) error { return unix.ENODEV }

// An update that cannot mount the ESP is left to the boot loader, which counts.
func TestAnUpdateThatCannotMountTheESPIsOnProbation(t *testing.T) {
	disk := installedDisk(t)
	loader, _ := boot(t, disk, osdisk.SlotA)
	if err := loader.Write(t.Context(), read(t, bundle(t, "2")), nil); err != nil {
		t.Fatal(err)
	}
	blind := func(slot osdisk.Slot) *Upgrader {
		o := options(t, disk, slot)
		o.OS = unmountable{}
		u, failed, err := New(o)
		if !errors.Is(err, unix.ENODEV) || failed != nil || u == nil {
			t.Fatalf("%v, failed %v", err, failed)
		}
		return u
	}
	for boots := 1; boots <= tries+1; boots++ {
		u := blind(osdisk.SlotB)
		if !u.OnProbation() || u.Counted() != (boots <= tries) {
			t.Errorf("boot %d: on probation %t, counted %t", boots, u.OnProbation(), u.Counted())
		}
		if err := u.Condemn([]string{"no driver"}); !errors.Is(err, unix.ENODEV) {
			t.Errorf("condemned: %v", err)
		}
		if _, _, err := u.Entries(); !errors.Is(err, unix.ENODEV) {
			t.Errorf("asked for the slots: %v", err)
		}
		if boots <= tries {
			count(t, loader, osdisk.SlotB)
		}
	}
	if u := blind(osdisk.SlotA); u.OnProbation() {
		t.Error("the image that was good is on probation")
	}
	_, failed := boot(t, disk, osdisk.SlotA)
	if failed == nil || !strings.Contains(failed.Why, "with: no driver") {
		t.Errorf("told of %+v", failed)
	}
}

// An image that never gets healthy, where there is no other, can be updated: that may
// be the cure.
func TestTheLastImageIsUpdatedOnProbation(t *testing.T) {
	disk := installedDisk(t)
	u, _ := boot(t, disk, osdisk.SlotA)
	if err := u.Write(t.Context(), read(t, bundle(t, "2")), nil); err != nil {
		t.Fatal(err)
	}
	count(t, u, osdisk.SlotB)
	u, _ = boot(t, disk, osdisk.SlotB)
	err := u.esp(0, func(f entries.Folder) error {
		list, err := f.List()
		if err != nil {
			return err
		}
		return f.Remove(entries.AllOf(list, osdisk.SlotA))
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := u.Condemn([]string{"kubelet: broken"}); err == nil || !strings.Contains(err.Error(), "no other image") {
		t.Errorf("condemned: %v", err)
	}
	if err := u.Write(t.Context(), read(t, bundle(t, "3")), nil); err != nil {
		t.Fatal(err)
	}
	if got := names(t, u); got != "keelson-2-b+2-1.efi keelson-3-a+3.efi" {
		t.Errorf("entries %s", got)
	}
}

func TestAnUpdateThatWaitsIsCalledOff(t *testing.T) {
	disk := installedDisk(t)
	u, _ := boot(t, disk, osdisk.SlotA)
	if err := u.Write(t.Context(), read(t, bundle(t, "2")), nil); err != nil {
		t.Fatal(err)
	}
	if off, err := u.Rollback(); err != nil || !off || u.Last().Outcome != Undone {
		t.Errorf("called off: %v, %v, %+v", off, err, u.Last())
	}
	if _, err := u.Rollback(); err == nil || !strings.Contains(err.Error(), "empty") {
		t.Errorf("called off again: %v", err)
	}
	u, failed := boot(t, disk, osdisk.SlotA)
	if got := names(t, u); got != "keelson-1-a.efi" || failed != nil {
		t.Errorf("entries %s, told of %+v", got, failed)
	}
	if err := u.Write(t.Context(), read(t, bundle(t, "3")), nil); err != nil {
		t.Fatal(err)
	}
	// What META does not know of is not taken for an update.
	u.record.Update = nil
	if off, err := u.Rollback(); off || err == nil || !strings.Contains(err.Error(), "never found healthy") {
		t.Errorf("a rollback to an image that was never booted: %v, %v", off, err)
	}
	if got := names(t, u); got != "keelson-1-a.efi keelson-2-b+3.efi" {
		t.Errorf("entries %s", got)
	}
}

func TestBundlesThatAreRefusedLeaveTheRunningImage(t *testing.T) {
	disk := installedDisk(t)
	u, _ := boot(t, disk, osdisk.SlotA)
	whole := bundle(t, "2")
	rootAt := bytes.Index(whole, []byte("root 2root 2"))
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	for name, test := range map[string]struct {
		ctx    context.Context
		change func([]byte) []byte
		want   string
	}{
		"truncated":   {t.Context(), func(b []byte) []byte { return b[:rootAt+1000] }, "ends within its rootfs.img"},
		"damaged":     {t.Context(), func(b []byte) []byte { b[rootAt+5]++; return b }, "rootfs.img is damaged"},
		"interrupted": {canceled, func(b []byte) []byte { return b }, "context canceled"},
	} {
		err := u.Write(test.ctx, read(t, test.change(bytes.Clone(whole))), nil)
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v", name, err)
		}
		if got := names(t, u); got != "keelson-1-a.efi" || u.Last() != nil {
			t.Errorf("%s: entries %s, last %+v", name, got, u.Last())
		}
	}
	if err := u.Write(t.Context(), read(t, whole), nil); err != nil {
		t.Errorf("the whole one: %v", err)
	}
}

func TestAnESPThatIsFull(t *testing.T) {
	disk := installedDisk(t)
	u, _ := boot(t, disk, osdisk.SlotA)
	err := u.esp(0, func(entries.Folder) error {
		f, err := os.Create(filepath.Join(u.options.MountPoint, "filler"))
		if err != nil {
			return err
		}
		_, err = io.Copy(f, io.LimitReader(zeros{}, 600<<20))
		if !errors.Is(err, unix.ENOSPC) {
			t.Errorf("the ESP did not fill up: %v", err)
		}
		return f.Close()
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := u.Write(t.Context(), read(t, bundle(t, "2")), nil); err == nil || !strings.Contains(err.Error(), "the ESP is full") {
		t.Errorf("error %v", err)
	}
	if got := names(t, u); got != "keelson-1-a.efi" {
		t.Errorf("entries %s", got)
	}
	if last := u.Last(); last.Outcome != Failed || !strings.Contains(last.Why, "the ESP is full") {
		t.Errorf("remembered: %+v", last)
	}
	if u, failed := boot(t, disk, osdisk.SlotA); u.OnProbation() || failed != nil {
		t.Errorf("the next boot: %+v", failed)
	}
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) {
	clear(b)
	return len(b), nil
}

func TestTheNextKernel(t *testing.T) {
	disk := installedDisk(t)
	u, _ := boot(t, disk, osdisk.SlotA)
	var found string
	use := func(f *os.File) error {
		text, err := io.ReadAll(f)
		found = string(text)
		return err
	}
	if err := u.Next(use); err != nil || found != "kernel 1" {
		t.Errorf("%q: %v", found, err)
	}
	if err := u.Write(t.Context(), read(t, bundle(t, "2")), nil); err != nil {
		t.Fatal(err)
	}
	if err := u.Next(use); !errors.Is(err, ErrCounted) {
		t.Errorf("an image that the loader has to count: %v", err)
	}
}
