package upgrade

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/keelson-os/keelson/machined/host/entries"
	"github.com/keelson-os/keelson/pkg/osdisk"
)

// healthyUpdate makes a disk whose slot B has an update that was found healthy.
func healthyUpdate(t *testing.T) (partitions, *Upgrader) {
	t.Helper()
	disk := installedDisk(t)
	u, _ := boot(t, disk, osdisk.SlotA)
	if err := u.Write(t.Context(), read(t, bundle(t, "2")), nil); err != nil {
		t.Fatal(err)
	}
	count(t, u, osdisk.SlotB)
	u, _ = boot(t, disk, osdisk.SlotB)
	if err := u.Bless(); err != nil {
		t.Fatal(err)
	}
	return disk, u
}

func TestARottenImageIsGivenUpInStage1(t *testing.T) {
	disk, u := healthyUpdate(t)
	give := func(hash string) (osdisk.Entry, error) {
		return entries.GiveUp(mounted{}, "", disk[osdisk.ESP.Name], hash)
	}
	if _, err := give("kernel 1"); !errors.Is(err, entries.ErrCounted) {
		t.Errorf("slot A, which the loader did not choose: %v", err)
	}
	if given, err := give("kernel 2"); err != nil || given.Slot != osdisk.SlotB {
		t.Fatalf("%v: %v", given, err)
	}
	if got := names(t, u); got != "keelson-1-a.efi keelson-2-b+0-1.efi" {
		t.Errorf("entries %s", got)
	}
	if _, err := give("kernel 1"); !errors.Is(err, entries.ErrNoOther) {
		t.Errorf("the last image that there is: %v", err)
	}
	u, failed := boot(t, disk, osdisk.SlotA)
	if failed == nil || failed.Outcome != Failed || !strings.Contains(failed.Why, "root image on the disk is damaged") || failed.To != "v2 (build 2)" {
		t.Errorf("told: %+v", failed)
	}
	if got := names(t, u); got != "keelson-1-a.efi" {
		t.Errorf("entries %s", got)
	}
	if err := u.Write(t.Context(), read(t, bundle(t, "3")), nil); err != nil {
		t.Errorf("the next update: %v", err)
	}
}

func TestGiveUpLeavesCountedEntriesToTheLoader(t *testing.T) {
	disk := installedDisk(t)
	u, _ := boot(t, disk, osdisk.SlotA)
	if err := u.Write(t.Context(), read(t, bundle(t, "2")), nil); err != nil {
		t.Fatal(err)
	}
	for range tries {
		count(t, u, osdisk.SlotB)
		if _, err := entries.GiveUp(mounted{}, "", disk[osdisk.ESP.Name], "kernel 2"); !errors.Is(err, entries.ErrCounted) {
			t.Fatal(err)
		}
	}
	if got := names(t, u); got != "keelson-1-a.efi keelson-2-b+0-3.efi" {
		t.Errorf("entries %s", got)
	}
}

// What was installed first is no update, and rots all the same.
func TestTheInstalledImageIsGivenUp(t *testing.T) {
	disk, u := healthyUpdate(t)
	if _, err := u.Rollback(); err != nil {
		t.Fatal(err)
	}
	u, _ = boot(t, disk, osdisk.SlotA)
	if err := u.Abandon("block 7"); err != nil {
		t.Fatal(err)
	}
	if got := names(t, u); got != "keelson-2-b.efi keelson-3-a+0-1.efi" {
		t.Errorf("entries %s", got)
	}
	u, failed := boot(t, disk, osdisk.SlotB)
	if failed == nil || failed.Slot != osdisk.SlotA || !strings.HasSuffix(failed.Why, "damaged: block 7") || failed.From != "the image in slot b" {
		t.Errorf("told: %+v", failed)
	}
	if err := u.Abandon("block 8"); err == nil || !strings.Contains(err.Error(), "no other image") {
		t.Errorf("the last image that there is: %v", err)
	}
	if got := names(t, u); got != "keelson-2-b.efi" {
		t.Errorf("entries %s", got)
	}
}

// An update that was written and not yet booted is what the record is about, and
// the image that ran is kept until it is good.
func TestAbandonWithAnUpdateWaiting(t *testing.T) {
	disk := installedDisk(t)
	u, _ := boot(t, disk, osdisk.SlotA)
	if err := u.Write(t.Context(), read(t, bundle(t, "2")), nil); err != nil {
		t.Fatal(err)
	}
	if err := u.Abandon("block 7"); err != nil {
		t.Fatal(err)
	}
	count(t, u, osdisk.SlotB)
	u, failed := boot(t, disk, osdisk.SlotB)
	if last := u.Last(); failed != nil || last.Outcome != Pending || last.Slot != osdisk.SlotB || !u.OnProbation() {
		t.Errorf("failed %+v, last %+v", failed, last)
	}
	if got := names(t, u); got != "keelson-1-a+0-1.efi keelson-2-b+2-1.efi" {
		t.Errorf("entries %s", got)
	}
	if err := u.Bless(); err != nil || u.Last().Outcome != Good {
		t.Errorf("blessed: %+v, %v", u.Last(), err)
	}
	if _, failed = boot(t, disk, osdisk.SlotB); failed == nil || failed.Slot != osdisk.SlotA {
		t.Errorf("the damaged image is not told of: %+v", failed)
	}
}

// Without META, which holds only history, it is told of as well.
func TestGivenUpWithoutARecord(t *testing.T) {
	disk := installedDisk(t)
	folder := filepath.Join(disk[osdisk.ESP.Name], osdisk.EntriesFolder)
	if err := os.WriteFile(filepath.Join(folder, "keelson-9-b+0-1.efi"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	u, failed := boot(t, disk, osdisk.SlotA)
	if failed == nil || failed.From != "v1" || failed.Written.IsZero() || failed.To != "the image in slot b" {
		t.Errorf("told: %+v", failed)
	}
	if _, failed := boot(t, disk, osdisk.SlotA); failed != nil || names(t, u) != "keelson-1-a.efi" {
		t.Errorf("told twice: %+v", failed)
	}
}
