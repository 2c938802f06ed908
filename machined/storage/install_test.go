package storage

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/diskfs/go-diskfs/partition/gpt"

	"github.com/keelson-os/keelson/machined/host"
	"github.com/keelson-os/keelson/pkg/osdisk"
)

func installation() Installation {
	root := bytes.Repeat([]byte("root"), 1<<18)
	return Installation{
		Image: osdisk.Image{
			Loader: []byte("loader"), Kernel: bytes.Repeat([]byte("kernel"), 1<<16),
			Root: bytes.NewReader(root), RootSize: int64(len(root)),
		},
		Config: []byte("kind: Machine\n"),
	}
}

// ownTable reads the table of a disk that is the node's.
func ownTable(t *testing.T, disk string) *gpt.Table {
	t.Helper()
	f, err := os.Open(disk)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	table, err := osdisk.ReadTable(f, testSize/512, 512)
	if err != nil || !osdisk.IsOwn(table) {
		t.Fatalf("%+v, %v", table, err)
	}
	return table
}

func TestInstallOnAnEmptyDisk(t *testing.T) {
	o := testOptions(t, loopDisk(t, testSize))
	if _, err := ReadConfig(t.Context(), o); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a config on an empty disk: %v", err)
	}
	if err := Install(t.Context(), o, installation()); err != nil {
		t.Fatal(err)
	}
	if !osdisk.IsInstalled(ownTable(t, o.Disk)) {
		t.Error("the disk is not marked as installed")
	}
	config, err := ReadConfig(t.Context(), o)
	if err != nil || string(config) != "kind: Machine\n" {
		t.Errorf("the config is %q, %v", config, err)
	}
	table, slot := ownTable(t, o.Disk), make([]byte, 1<<20)
	f, err := os.Open(o.Disk)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.ReadAt(slot, int64(osdisk.RootA.Find(table).Start)*512)
	f.Close()
	if err != nil || !bytes.Equal(slot, bytes.Repeat([]byte("root"), 1<<18)) {
		t.Errorf("the root image is not in its slot: %v", err)
	}
	// What follows is the first boot from the disk, and one from a medium.
	s := open(t, o)
	if kept, err := os.ReadFile(filepath.Join(o.StateDir, configFile)); err != nil || string(kept) != "kind: Machine\n" {
		t.Errorf("after the first boot the config is %q, %v", kept, err)
	}
	closeStorage(t, s)
	var installed *InstalledError
	if err := Install(t.Context(), o, installation()); !errors.As(err, &installed) {
		t.Errorf("installed again: %v", err)
	}
	again := installation()
	again.Wipe, again.Config = true, []byte("kind: Machine\n# new\n")
	again.Replaces = func(kept []byte) error { return fmt.Errorf("kept is %q", kept) } // as when the medium was left in
	if err := Install(t.Context(), o, again); !errors.As(err, &installed) || !strings.Contains(err.Error(), `kept is "kind: Machine\n"`) {
		t.Errorf("wiped although it may not go: %v", err)
	}
	o.OS = failing{host.Linux{}, osdisk.State.Name, errors.New("I/O error")}
	if err := Install(t.Context(), o, again); !errors.As(err, &installed) {
		t.Errorf("wiped although nobody knows whose it is: %v", err)
	}
	o.OS = host.Linux{}
	again.Replaces = func([]byte) error { return nil }
	if err := Install(t.Context(), o, again); err != nil {
		t.Fatal(err)
	}
	if config, err = ReadConfig(t.Context(), o); err != nil || string(config) != "kind: Machine\n# new\n" {
		t.Errorf("after a wipe the config is %q, %v", config, err)
	}
}

func TestInstallIsTakenUpAgain(t *testing.T) {
	o := testOptions(t, loopDisk(t, testSize))
	short := installation()
	short.Image.RootSize++ // as when the medium is pulled out
	if err := Install(t.Context(), o, short); err == nil || !strings.Contains(err.Error(), "are missing") {
		t.Fatal(err)
	}
	if osdisk.IsInstalled(ownTable(t, o.Disk)) {
		t.Fatal("half an installation is marked as one")
	}
	if err := Install(t.Context(), o, installation()); err != nil || !osdisk.IsInstalled(ownTable(t, o.Disk)) {
		t.Errorf("the second try: %v", err)
	}
}

// The power was cut in the installation's last step: the node boots from the disk,
// and from then on nothing takes the installation up again.
func TestABootFromTheDiskFinishesItsInstallation(t *testing.T) {
	o := testOptions(t, loopDisk(t, testSize))
	closeStorage(t, open(t, o))
	if osdisk.IsInstalled(ownTable(t, o.Disk)) {
		t.Error("a node whose kernel came from elsewhere is taken for an installed one")
	}
	o.Booted = true
	closeStorage(t, open(t, o))
	if !osdisk.IsInstalled(ownTable(t, o.Disk)) {
		t.Error("a node that runs from its disk is not taken for an installed one")
	}
}

func TestInstallRefusesAForeignDisk(t *testing.T) {
	disk := loopDisk(t, testSize)
	o := testOptions(t, disk)
	if output, err := exec.Command(mke2fs, "-q", "-F", "-t", "ext4", disk).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, output)
	}
	var foreign *ForeignDataError
	if err := Install(t.Context(), o, installation()); !errors.As(err, &foreign) {
		t.Errorf("error %v", err)
	}
	if output, err := exec.Command(e2fsck, "-n", "-f", disk).CombinedOutput(); err != nil {
		t.Errorf("the file system was changed: %v: %s", err, output)
	}
	wiping := installation()
	wiping.Wipe = true
	if err := Install(t.Context(), o, wiping); err != nil || !osdisk.IsInstalled(ownTable(t, o.Disk)) {
		t.Errorf("with its data to be wiped: %v", err)
	}
}

// A node whose kernel came from elsewhere has its data on a disk without a
// system; it keeps them.
func TestInstallKeepsANodesData(t *testing.T) {
	o := testOptions(t, loopDisk(t, testSize))
	s := open(t, o)
	id := s.MachineID
	closeStorage(t, s)
	if err := Install(t.Context(), o, installation()); err != nil {
		t.Fatal(err)
	}
	s = open(t, o)
	if s.MachineID != id || s.Formatted {
		t.Errorf("the node's identity %s became %s", id, s.MachineID)
	}
	closeStorage(t, s)
}

// The image on the disk cannot be started any more, and there is no other.
func TestRepairKeepsANodesData(t *testing.T) {
	o := testOptions(t, loopDisk(t, testSize))
	repair := installation()
	repair.Repair, repair.Config = true, []byte("kind: Machine\n# repaired\n")
	if err := Install(t.Context(), o, repair); err == nil || !strings.Contains(err.Error(), "nothing to repair") {
		t.Errorf("repair of an empty disk: %v", err)
	}
	if err := Install(t.Context(), o, installation()); err != nil {
		t.Fatal(err)
	}
	s := open(t, o)
	id := s.MachineID
	closeStorage(t, s)
	at := int64(osdisk.RootA.Find(ownTable(t, o.Disk)).Start) * 512
	overwrite(t, o.Disk, at, []byte("rotten"))
	if err := Install(t.Context(), o, repair); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(o.Disk)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	slot := make([]byte, 8)
	if _, err := f.ReadAt(slot, at); err != nil || string(slot) != "rootroot" {
		t.Errorf("the slot begins with %q: %v", slot, err)
	}
	if config, err := ReadConfig(t.Context(), o); err != nil || string(config) != string(repair.Config) {
		t.Errorf("the config is %q, %v", config, err)
	}
	s = open(t, o)
	if s.MachineID != id || s.Formatted {
		t.Errorf("the node's identity %s became %s", id, s.MachineID)
	}
	closeStorage(t, s)
}

// A repair was cut short, and a medium with a config that wipes was left in.
func TestACutRepairIsNotWiped(t *testing.T) {
	o := testOptions(t, loopDisk(t, testSize))
	if err := Install(t.Context(), o, installation()); err != nil {
		t.Fatal(err)
	}
	s := open(t, o)
	id := s.MachineID
	closeStorage(t, s)
	cut := installation()
	cut.Repair = true
	cut.Image.RootSize++
	if err := Install(t.Context(), o, cut); err == nil || osdisk.IsInstalled(ownTable(t, o.Disk)) {
		t.Fatalf("it was not cut: %v", err)
	}
	unattended := installation()
	unattended.Wipe, unattended.Replaces = true, func([]byte) error { return errors.New("of this cluster") }
	if err := Install(t.Context(), o, unattended); err != nil {
		t.Fatal(err)
	}
	s = open(t, o)
	if s.MachineID != id || s.Formatted {
		t.Errorf("the node's identity %s became %s", id, s.MachineID)
	}
	closeStorage(t, s)
}

func overwrite(t *testing.T, path string, at int64, with []byte) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.WriteAt(with, at)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		t.Fatal(err)
	}
}

func TestInstallFailsWhereTheDiskDoes(t *testing.T) {
	o := testOptions(t, loopDisk(t, testSize))
	broken := errors.New("I/O error")
	o.OS = failing{host.Linux{}, osdisk.State.Name, broken}
	if err := Install(t.Context(), o, installation()); !errors.Is(err, broken) {
		t.Errorf("error %v", err)
	}
	if osdisk.IsInstalled(ownTable(t, o.Disk)) {
		t.Error("marked as installed")
	}
}
