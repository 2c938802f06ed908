package storage

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/keelson-os/keelson/pkg/osdisk"
)

// used is a disk that a node has used and left; what it kept is in both of its
// file systems.
func used(t *testing.T) Options {
	t.Helper()
	o := testOptions(t, loopDisk(t, testSize))
	s := open(t, o)
	for _, dir := range []string{o.StateDir, o.VarDir} {
		if err := os.WriteFile(filepath.Join(dir, "kept"), []byte(strings.Repeat("precious data ", 1000)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	closeStorage(t, s)
	return o
}

// isFresh opens the storage and tells whether it was made anew.
func isFresh(t *testing.T, o Options) bool {
	t.Helper()
	s := open(t, o)
	fresh := true
	for _, dir := range []string{o.StateDir, o.VarDir} {
		if _, err := os.Stat(filepath.Join(dir, "kept")); err == nil {
			fresh = false
		}
	}
	if fresh != s.Formatted {
		t.Errorf("formatted %t, but the data is gone %t", s.Formatted, fresh)
	}
	closeStorage(t, s)
	return fresh
}

func TestCondemnDecidesWhatTheNextBootFinds(t *testing.T) {
	o := used(t)
	if err := CheckWipe(t.Context(), o); err != nil || isFresh(t, o) {
		t.Fatalf("a check changed the disk: %v", err)
	}
	// While it is in use, as a node does it that goes down.
	s := open(t, o)
	if err := Condemn(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	if err := Spare(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	closeStorage(t, s)
	if isFresh(t, o) {
		t.Error("the disk was spared and is empty")
	}
	s = open(t, o)
	if err := Condemn(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	closeStorage(t, s)
	if !isFresh(t, o) {
		t.Error("the disk was condemned and is not empty")
	}
}

func TestWhatIsKeptOfAReset(t *testing.T) {
	for _, keep := range []osdisk.Partition{osdisk.State, osdisk.Ephemeral} {
		o := used(t)
		o.Keep = []string{keep.Name}
		if err := Wipe(t.Context(), o, Erasing{}); err != nil {
			t.Fatal(err)
		}
		s := open(t, o)
		for name, dir := range map[string]string{osdisk.State.Name: o.StateDir, osdisk.Ephemeral.Name: o.VarDir} {
			if _, err := os.Stat(filepath.Join(dir, "kept")); (err == nil) != (name == keep.Name) {
				t.Errorf("%s kept: what was on %s is there: %v", keep.Name, name, err == nil)
			}
		}
		if !s.Formatted {
			t.Error("nothing was made anew")
		}
		closeStorage(t, s)
	}
}

func TestWipe(t *testing.T) {
	o := used(t)
	if err := Wipe(t.Context(), o, Erasing{}); err != nil {
		t.Fatal(err)
	}
	for _, partition := range []string{"p5", "p6"} {
		node := o.Disk + partition
		if output, err := exec.Command(e2fsck, "-n", node).CombinedOutput(); err == nil {
			t.Errorf("%s has a file system yet: %s", node, output)
		}
	}
	state, err := os.ReadFile(o.Disk + "p5")
	if err != nil || !allZero(state) {
		t.Errorf("STATE is not zeroed: %v", err)
	}
	if !isFresh(t, o) {
		t.Error("the data is there yet")
	}
}

// On a disk that cannot discard.
func TestWipeOverwritesOnRequest(t *testing.T) {
	for _, how := range []bool{false, true} {
		o := used(t)
		limit := filepath.Join("/sys/block", filepath.Base(o.Disk), "queue/discard_max_bytes")
		if err := os.WriteFile(limit, []byte("0"), 0); err != nil {
			t.Fatal(err)
		}
		ephemeral, secret := o.Disk+"p6", "a secret in the middle"
		const middle = 100 * mebibyte
		overwrite(t, ephemeral, middle, []byte(secret))
		var told []int
		progress := func(name string, percent int) {
			if name == osdisk.Ephemeral.Name {
				told = append(told, percent)
			}
		}
		if err := Wipe(t.Context(), o, Erasing{Overwrite: how, Progress: progress}); err != nil {
			t.Fatal(err)
		}
		if gone := !strings.HasPrefix(read(t, ephemeral, middle, len(secret)), secret); gone != how {
			t.Errorf("overwrite %t: what was in the middle is gone: %t", how, gone)
		}
		if how && (len(told) < 2 || !slices.IsSorted(told) || told[len(told)-1] != 100) || !how && len(told) > 0 {
			t.Errorf("overwrite %t: told %v", how, told)
		}
		if !isFresh(t, o) {
			t.Error("the data is there yet")
		}
	}
}

func read(t *testing.T, path string, at int64, length int) string {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	text := make([]byte, length)
	if _, err := f.ReadAt(text, at); err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// Wipe was cut short before it erased anything, or while it did.
func TestAWipeThatIsCutShortLeavesAFreshNode(t *testing.T) {
	o, told := used(t), func(int) {}
	ended, cancel := context.WithCancel(t.Context())
	if err := Condemn(ended, o); err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := erase(ended, o.Disk+"p5", true, told); !errors.Is(err, context.Canceled) {
		t.Errorf("erased all the same: %v", err)
	}
	if err := erase(t.Context(), o.Disk+"p6", false, told); err != nil {
		t.Fatal(err)
	}
	if !isFresh(t, o) {
		t.Error("the data is there yet")
	}
}

func TestWipeLeavesWhatIsMountedToTheNextBoot(t *testing.T) {
	o := used(t)
	s := open(t, o)
	if err := Wipe(t.Context(), o, Erasing{}); err == nil || !strings.Contains(err.Error(), "busy") {
		t.Errorf("error %v", err)
	}
	if _, err := os.Stat(filepath.Join(o.StateDir, "kept")); err != nil {
		t.Error(err)
	}
	closeStorage(t, s)
	if !isFresh(t, o) {
		t.Error("the data is there yet")
	}
}

func TestWipeRefusesAForeignDisk(t *testing.T) {
	disk := loopDisk(t, testSize)
	o := testOptions(t, disk)
	if err := errors.Join(CheckWipe(t.Context(), o), Wipe(t.Context(), o, Erasing{})); err != nil {
		t.Errorf("a blank disk: %v", err)
	}
	if output, err := exec.Command(mke2fs, "-q", "-F", "-t", "ext4", disk).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, output)
	}
	var foreign *ForeignDataError
	wipe := func(ctx context.Context, o Options) error { return Wipe(ctx, o, Erasing{}) }
	for _, do := range []func(context.Context, Options) error{CheckWipe, Condemn, wipe} {
		if err := do(t.Context(), o); !errors.As(err, &foreign) {
			t.Errorf("error %v", err)
		}
	}
	if output, err := exec.Command(e2fsck, "-n", "-f", disk).CombinedOutput(); err != nil {
		t.Errorf("the file system was changed: %v: %s", err, output)
	}
}

// However far the table's writing came, the disk is in its old state or fresh.
func TestPowerCutsDuringCondemn(t *testing.T) {
	before := emptyDisk(t, testSize)
	table := osdisk.NewTable(testSize, 512)
	for _, entry := range table.Partitions {
		entry.Attributes |= formatted
	}
	if err := osdisk.WriteTable(before, table, testSize); err != nil {
		t.Fatal(err)
	}
	r := &recorder{File: before}
	for _, entry := range table.Partitions {
		entry.Attributes &^= formatted
	}
	if err := osdisk.WriteTable(r, table, testSize); err != nil {
		t.Fatal(err)
	}
	seen := map[int]bool{}
	for done := range len(r.writes) + 1 {
		f := emptyDisk(t, testSize)
		old := osdisk.NewTable(testSize, 512)
		for i, entry := range old.Partitions {
			entry.Attributes |= formatted
			entry.GUID = table.Partitions[i].GUID
		}
		old.GUID = table.GUID
		if err := osdisk.WriteTable(f, old, testSize); err != nil {
			t.Fatal(err)
		}
		for _, w := range r.writes[:done] {
			write(t, f, w.at, string(w.content))
		}
		p, err := planFor(t, f, 512)
		if err != nil {
			t.Errorf("after %d of %d writes: %v", done, len(r.writes), err)
		}
		seen[len(p.format)] = true
		if len(p.format) != 0 && len(p.format) != len(fileSystems) {
			t.Errorf("after %d of %d writes: half of the disk is made anew: %v", done, len(r.writes), p.format)
		}
	}
	if !seen[0] || !seen[len(fileSystems)] {
		t.Errorf("the writes did not go from the old state to the new: %v", seen)
	}
}
