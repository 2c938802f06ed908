package upgrade

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/keelson-os/keelson/machined/host/entries"
	"github.com/keelson-os/keelson/machined/host/hosttest"
	"github.com/keelson-os/keelson/pkg/osbundle"
	"github.com/keelson-os/keelson/pkg/osdisk"
)

// updateDisk tells a copy of this program which disk to update, in JSON, and
// updateBundle with what.
const updateDisk, updateBundle = "KEELSON_TEST_UPDATE", "KEELSON_TEST_BUNDLE"

// updateToBeCut is what runs when the power is cut.
func updateToBeCut(t *testing.T) {
	t.Helper()
	var disk partitions
	if err := json.Unmarshal([]byte(os.Getenv(updateDisk)), &disk); err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(os.Getenv(updateBundle))
	if err != nil {
		t.Fatal(err)
	}
	u, _ := boot(t, disk, osdisk.SlotA)
	hosttest.Begin()
	if err := u.Write(t.Context(), read(t, content), nil); err != nil {
		t.Fatal(err)
	}
}

// TestPowerCuts cuts the power while an update is written, again and again: the disk
// then holds what was flushed, and any part of what was not. (All of the ESP is
// flushed here: that of a real one is cut in the VMs' tests.) The running image can
// always be booted, the other one only if it is whole.
func TestPowerCuts(t *testing.T) {
	if os.Getenv(updateDisk) != "" {
		updateToBeCut(t)
		return
	}
	const cuts = 25
	disk := installedDisk(t)
	// Two of them, so that what the one before wrote is not what is wanted.
	type image struct {
		kernel, root []byte
		bundle       string
	}
	var images [2]image
	for i := range images {
		kernel, root := bytes.Repeat([]byte(fmt.Sprint("kernel ", i)), 32<<10), bytes.Repeat([]byte(fmt.Sprintf("root %d, ", i)), 3<<20)
		images[i] = image{kernel, root, cutBundle(t, kernel, root)}
	}
	began := time.Now()
	if !runUpdate(t, disk, images[1].bundle, time.Minute, func() {}) {
		t.Fatal("an update does not end")
	}
	takes := time.Since(began)
	whole := 0
	for i := range cuts {
		kernel, root, bundle := images[i%2].kernel, images[i%2].root, images[i%2].bundle
		after := rand.N(takes * 3 / 4) // it has started by then
		slot := make([]byte, len(root))
		var found []osdisk.Entry
		var added []byte
		runUpdate(t, disk, bundle, after, func() {
			file, err := os.Open(disk["image"])
			if err != nil {
				t.Fatal(err)
			}
			defer file.Close()
			if _, err := file.ReadAt(slot, int64(osdisk.RootB.Find(osdisk.NewTable(osdisk.MinSize, 512)).Start)*512); err != nil {
				t.Fatal(err)
			}
			u, _ := boot(t, disk, osdisk.SlotA)
			err = u.esp(0, func(f entries.Folder) error {
				if found, err = f.List(); err != nil {
					return err
				}
				if other, there := entries.Of(found, osdisk.SlotB); there {
					added, err = os.ReadFile(f.Path(other))
				}
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
		})
		if _, there := entries.Of(found, osdisk.SlotA); !there {
			t.Fatalf("after %s the running image has no entry: %v", after, found)
		}
		if _, there := entries.Of(found, osdisk.SlotB); !there {
			continue
		}
		whole++
		if !bytes.Equal(slot, root) || !bytes.Equal(added, kernel) {
			t.Fatalf("after %s an image is booted that is not whole: %v", after, found)
		}
	}
	t.Logf("an update takes %s; %d of %d were whole", takes.Round(time.Millisecond), whole, cuts)
	u, _ := boot(t, disk, osdisk.SlotA)
	content, err := os.ReadFile(images[0].bundle)
	if err != nil {
		t.Fatal(err)
	}
	if err := u.Write(t.Context(), read(t, content), nil); err != nil {
		t.Errorf("the next update: %v", err)
	}
}

func cutBundle(t *testing.T, kernel, root []byte) string {
	t.Helper()
	dir, files := t.TempDir(), map[string]string{}
	for part, content := range map[string][]byte{osbundle.Loader: []byte("loader"), osbundle.Kernel: kernel, osbundle.Root: root} {
		files[part] = filepath.Join(dir, part)
		if err := os.WriteFile(files[part], content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(dir, "bundle")
	file, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	err = osbundle.Write(file, osbundle.Manifest{Version: "v2", Architecture: "amd64"}, files, key, time.Unix(0, 0))
	if err := errors.Join(err, file.Close()); err != nil {
		t.Fatal(err)
	}
	return path
}

// runUpdate lets an update run for so long, or to its end, which is told, and has a
// look at what the disk holds while it stands still.
func runUpdate(t *testing.T, disk partitions, bundle string, within time.Duration, look func()) (ended bool) {
	t.Helper()
	text, err := json.Marshal(disk)
	if err != nil {
		t.Fatal(err)
	}
	return hosttest.Cut(t, within, []string{updateDisk + "=" + string(text), updateBundle + "=" + bundle}, look)
}
