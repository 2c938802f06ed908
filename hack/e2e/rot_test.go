package e2e

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"testing"
	"time"

	"github.com/keelson-os/keelson/pkg/osdisk"
)

// testRottenRoot damages the root image that runs everywhere, so that its first
// program cannot be read.
func testRottenRoot(t *testing.T) {
	rot(t, 0.02, 0.98)
	osctl(t, "wait", "deployment/sample-web", "--for", "condition=Available", "--timeout", settleDeadline.String())
}

// testRottenServices damages it in its middle, where the program of the Kubernetes
// services is, and not the first one: the kernel meets it while the node runs.
func testRottenServices(t *testing.T) { rot(t, 0.45, 0.55) }

// rot damages a part of the root image that runs, while the machine is off, and
// sees the other slot take over.
func rot(t *testing.T, from, to float64) {
	t.Helper()
	cluster, node := firstNode(t, installedCluster)
	before := runningSlot(t)
	if err := cluster.PowerCut(t.Context(), node); err != nil {
		t.Fatal(err)
	}
	damage(t, filepath.Join(cluster.Dir(), "nodes", node, "data.img"), osdisk.Slot(before), from, to)
	if err := cluster.Start(t.Context(), node); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the other slot is booted", func() error {
		out, err := osctlFor(time.Minute, nil, "version")
		if err == nil && !regexp.MustCompile(`slot +`+string(osdisk.Slot(before).Other())+`\n`).MatchString(out) {
			err = fmt.Errorf("version: %s", out)
		}
		return err
	})
	versionTells(t, `last update .*: failed: its root image on the disk is damaged`)
	osctl(t, "health", "--wait", "--timeout", bootDeadline.String())
}

// testRepair damages the only image on the disk: the medium that it was installed
// from is started instead, and writes its image anew.
func testRepair(t *testing.T) {
	cluster, node := firstNode(t, installedCluster)
	if err := cluster.PowerCut(t.Context(), node); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(cluster.Dir(), "nodes", node)
	damage(t, filepath.Join(dir, "data.img"), osdisk.SlotA, 0.02, 0.98)
	if err := cluster.Start(t.Context(), node); err != nil {
		t.Fatal(err)
	}
	repair := []string{"install", "--repair", "--config", filepath.Join(dir, "config.yaml")}
	eventually(t, "the medium is started, and repairs the disk", func() error {
		_, err := osctlFor(settleDeadline, nil, repair...)
		return err
	})
	eventually(t, "the node runs from its disk", func() error {
		out, err := osctlFor(time.Minute, nil, "version")
		if err == nil && !regexp.MustCompile(`slot +a\n`).MatchString(out) {
			err = fmt.Errorf("version: %s", out)
		}
		return err
	})
	osctl(t, "health", "--wait", "--timeout", bootDeadline.String())
	osctl(t, "wait", "deployment/sample-web", "--for", "condition=Available", "--timeout", settleDeadline.String())
	osctlFails(t, []string{"start the node from one"}, repair...)
}

// damage flips a bit in every fourth block of a part of a slot's root image.
func damage(t *testing.T, path string, slot osdisk.Slot, from, to float64) {
	t.Helper()
	disk, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer disk.Close()
	info, err := disk.Stat()
	if err != nil {
		t.Fatal(err)
	}
	const sector = 512
	table, err := osdisk.ReadTable(disk, uint64(info.Size())/sector, sector)
	if err != nil {
		t.Fatal(err)
	}
	start := int64(slot.Root().Find(table).Start) * sector
	// The size that a squashfs tells of itself, in bytes.
	var used [8]byte
	if _, err := disk.ReadAt(used[:], start+40); err != nil {
		t.Fatal(err)
	}
	size := int64(binary.LittleEndian.Uint64(used[:]))
	var b [1]byte
	for at := int64(from * float64(size)); at < int64(to*float64(size)); at += 16 << 10 {
		if _, err := disk.ReadAt(b[:], start+at); err != nil {
			t.Fatal(err)
		}
		b[0] ^= 1
		if _, err := disk.WriteAt(b[:], start+at); err != nil {
			t.Fatal(err)
		}
	}
}
