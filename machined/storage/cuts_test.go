package storage

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/keelson-os/keelson/machined/host/hosttest"
	"github.com/keelson-os/keelson/pkg/osdisk"
)

// installDisk tells a copy of this program which disk to install on.
const installDisk = "KEELSON_TEST_INSTALL"

// cutInstallation is large enough to be cut in the middle.
func cutInstallation() Installation {
	what := installation()
	what.Image.RootSize = 24 << 20
	what.Image.Root = bytes.NewReader(bytes.Repeat([]byte("root"), 6<<20))
	return what
}

// installToBeCut is what runs when the power is cut.
func installToBeCut(t *testing.T, disk string) {
	t.Helper()
	o := testOptions(t, disk)
	hosttest.Begin()
	if err := Install(t.Context(), o, cutInstallation()); err != nil {
		t.Fatal(err)
	}
}

// TestPowerCuts cuts the power during an installation, again and again: the disk
// then holds what was flushed, and any part of what was not. Whatever it is, the
// next boot from the medium takes it up again, or finds a whole system.
func TestPowerCuts(t *testing.T) {
	if disk := os.Getenv(installDisk); disk != "" {
		installToBeCut(t, disk)
		return
	}
	const cuts = 25
	dir, image := t.TempDir(), emptyDisk(t, testSize).Name()
	began := time.Now()
	if !cut(t, image, filepath.Join(dir, "whole"), time.Minute) || !checkCut(t, filepath.Join(dir, "whole")) {
		t.Fatal("an installation that is not cut is not whole")
	}
	takes := time.Since(began)
	image = emptyDisk(t, testSize).Name()
	whole := 0
	for i := range cuts {
		after := rand.N(takes)
		t.Run(fmt.Sprintf("%d after %s", i, after.Round(time.Millisecond)), func(t *testing.T) {
			left := filepath.Join(dir, fmt.Sprint(i))
			cut(t, image, left, after)
			image = left
		})
		if t.Failed() {
			return
		}
		if checkCut(t, image) {
			whole++
			image = emptyDisk(t, testSize).Name()
		}
	}
	t.Logf("an installation takes %s; %d of %d were whole", takes.Round(time.Millisecond), whole, cuts)
	o := testOptions(t, hosttest.LoopDevice(t, opened(t, image), 0, 0, unix.LO_FLAGS_PARTSCAN))
	if err := Install(t.Context(), o, cutInstallation()); err != nil {
		t.Fatalf("it is not taken up again: %v", err)
	}
	if !checkCut(t, image) {
		t.Error("what was taken up again is not marked as whole")
	}
}

func opened(t *testing.T, path string) *os.File {
	t.Helper()
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { file.Close() })
	return file
}

// cut lets an installation on a disk run for so long, or to its end, which is told.
// What the disk holds then goes to another file, left.
func cut(t *testing.T, image, left string, after time.Duration) (ended bool) {
	t.Helper()
	disk := hosttest.LoopDevice(t, opened(t, image), 0, 0, unix.LO_FLAGS_PARTSCAN)
	return hosttest.Cut(t, after, []string{installDisk + "=" + disk}, func() {
		if printed, err := exec.Command("cp", "--sparse=always", image, left).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, printed)
		}
	})
}

// checkCut tells whether a disk is marked as installed, which only a whole
// installation may be.
func checkCut(t *testing.T, image string) bool {
	t.Helper()
	disk := opened(t, image)
	table, err := osdisk.ReadTable(disk, testSize/512, 512)
	if err != nil || !osdisk.IsInstalled(table) {
		return false
	}
	slot := make([]byte, 24<<20)
	if _, err := disk.ReadAt(slot, int64(osdisk.RootA.Find(table).Start)*512); err != nil || !bytes.Equal(slot, bytes.Repeat([]byte("root"), 6<<20)) {
		t.Errorf("marked as installed, and the root image is not whole: %v", err)
	}
	o := testOptions(t, hosttest.LoopDevice(t, disk, 0, 0, unix.LO_FLAGS_PARTSCAN))
	s := open(t, o) // as the first boot from the disk does
	if config, err := os.ReadFile(filepath.Join(o.StateDir, configFile)); err != nil || string(config) != "kind: Machine\n" {
		t.Errorf("marked as installed, and the config is %q: %v", config, err)
	}
	closeStorage(t, s)
	return true
}
