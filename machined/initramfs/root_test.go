package main

import (
	"bytes"
	"encoding/binary"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/diskfs/go-diskfs/partition/gpt"

	"github.com/keelson-os/keelson/machined/host"
	"github.com/keelson-os/keelson/machined/host/verity"
	"github.com/keelson-os/keelson/pkg/osdisk"
)

// testImage looks like a root image: a squashfs superblock that claims less than
// four blocks, and the hash tree that veritysetup made for four blocks. (Only
// the kernel compares the data with the tree.)
func testImage(t testing.TB) ([]byte, verity.RootHash) {
	t.Helper()
	tree, err := os.ReadFile("../host/verity/testdata/zeros16k.verity")
	if err != nil {
		t.Fatal(err)
	}
	image := make([]byte, 16<<10)
	copy(image, "hsqs")
	binary.LittleEndian.PutUint64(image[40:], 16<<10-100)
	root, err := verity.ParseRootHash("4db397a834dbaaa3b1e452882f05c9c130d7983cb88f7c83aa574da3f7523eb5")
	if err != nil {
		t.Fatal(err)
	}
	return append(image, tree...), root
}

func TestInspect(t *testing.T) {
	image, root := testImage(t)
	got, err := inspect(bytes.NewReader(image), root)
	if err != nil || got.hashOffset != 16<<10 || got.superblock.DataBlocks != 4 {
		t.Errorf("%+v, %v", got, err)
	}
	for name, test := range map[string]struct {
		change func([]byte) []byte
		want   string
	}{
		"empty drive":    {func([]byte) []byte { return nil }, "no squashfs"},
		"no squashfs":    {func(b []byte) []byte { b[0] = 0; return b }, "no squashfs"},
		"too large":      {func(b []byte) []byte { b[47] = 0xff; return b }, "claims"},
		"no tree":        {func(b []byte) []byte { return b[:16<<10] }, "squashfs: read the verity superblock"},
		"no magic":       {func(b []byte) []byte { b[16<<10] = 0; return b }, "squashfs: no verity superblock"},
		"partly covered": {func(b []byte) []byte { b[16<<10+72] = 3; return b }, "the hash tree covers 12288"},
		"other image":    {func(b []byte) []byte { b[len(b)-1] = 1; return b }, "root image with the root hash "},
		"cut off":        {func(b []byte) []byte { return b[:20<<10] }, "top block"},
	} {
		image, _ := testImage(t)
		if _, err := inspect(bytes.NewReader(test.change(image)), root); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want %q", name, err, test.want)
		}
	}
}

func FuzzInspect(f *testing.F) {
	image, root := testImage(f)
	f.Add(image)
	f.Fuzz(func(t *testing.T, image []byte) {
		if got, err := inspect(bytes.NewReader(image), root); err == nil && got.superblock.DataSize() != got.hashOffset {
			t.Errorf("%+v", got)
		}
	})
}

func TestLookForRoot(t *testing.T) {
	image, root := testImage(t)
	dir := t.TempDir()
	for name, content := range map[string][]byte{"vda": make([]byte, 8192), "c0d0": image} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	open := func(path string) (*os.File, error) { return os.Open(filepath.Join(dir, filepath.Base(path))) }
	sys := fstest.MapFS{}
	for _, name := range []string{"sr0", "vda"} {
		sys["sys/class/block/"+name] = &fstest.MapFile{Mode: fs.ModeDir}
	}
	got, seen, err := lookForRoot(sys, open, search{want: root, slots: true})
	if err != nil || got.device != "" {
		t.Errorf("found %+v, %v", got, err)
	}
	message := notFound(root, seen).Error()
	for _, want := range []string{root.String(), "/dev/sr0: open", "/dev/vda: no squashfs"} {
		if !strings.Contains(message, want) {
			t.Errorf("no %q in: %s", want, message)
		}
	}
	sys["sys/class/block/cciss!c0d0"] = &fstest.MapFile{Mode: fs.ModeDir}
	got, _, err = lookForRoot(sys, open, search{want: root, slots: true})
	if err != nil || got.device != "/dev/cciss/c0d0" {
		t.Errorf("found %+v, %v", got, err)
	}
}

func TestWantedRoot(t *testing.T) {
	_, root := testImage(t)
	for line, want := range map[string]string{
		"console=ttyS0":    "has no keelson.roothash=",
		"keelson.roothash": "want 64 hexadecimal digits",
		"keelson.roothash=" + strings.Repeat("z", 64):            "invalid byte",
		"keelson.roothash=" + root.String():                      "",
		"keelson.roothash=bad keelson.roothash=" + root.String(): "",
	} {
		got, err := wantedRoot(host.ParseCommandLine(line))
		switch {
		case want == "" && (err != nil || got != root):
			t.Errorf("%q: %s, %v", line, got, err)
		case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
			t.Errorf("%q: %v, want %q", line, err, want)
		}
	}
}

func TestRemoveBelow(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "lib/modules"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "lib/modules/a.ko"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	outside := filepath.Join(t.TempDir(), "kept")
	if err := os.WriteFile(outside, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Dir(outside), filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	if err := removeBelow(dir); err != nil {
		t.Error(err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("left: %v, %v", left, err)
	}
	if _, err := os.Stat(outside); err != nil {
		t.Errorf("a link was followed: %v", err)
	}
}

func TestLookForRootInAMediumsPartitions(t *testing.T) {
	image, root := testImage(t)
	dir := t.TempDir()
	f, err := os.Create(filepath.Join(dir, "sr0"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	const size = 8 << 20
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	table := &gpt.Table{LogicalSectorSize: 512, PhysicalSectorSize: 512, ProtectiveMBR: true, Partitions: []*gpt.Partition{
		{Index: 2, Start: 2048, End: 4095, Size: 2048 * 512, Type: gpt.EFISystemPartition, Name: "Appended2"},
		{Index: 3, Start: 4096, End: 8191, Size: 4096 * 512, Type: osdisk.RootA.Type, Name: "Appended3"},
	}}
	if err := table.Write(f, size); err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt(image, 4096*512); err != nil {
		t.Fatal(err)
	}
	open := func(path string) (*os.File, error) { return os.Open(filepath.Join(dir, filepath.Base(path))) }
	sys := fstest.MapFS{"sys/class/block/sr0": {Mode: fs.ModeDir}}
	got, seen, err := lookForRoot(sys, open, search{want: root, slots: true})
	if err != nil || got.device != "/dev/sr0" || got.start != 4096*512 || got.size != 4096*512 {
		t.Errorf("found %+v, seen %v: %v", got, seen, err)
	}
	// Where the kernel knows the partitions, they are devices of their own.
	sys["sys/class/block/sr0/sr0p3/partition"] = &fstest.MapFile{Data: []byte("3\n")}
	if got, _, _ := lookForRoot(sys, open, search{want: root, slots: true}); got.device != "" {
		t.Errorf("found %+v", got)
	}
	delete(sys, "sys/class/block/sr0/sr0p3/partition")
	if _, err := f.WriteAt(make([]byte, 4096), 4096*512); err != nil {
		t.Fatal(err)
	}
	if got, seen, err := lookForRoot(sys, open, search{want: root, slots: true}); got.device != "" || err != nil || !strings.Contains(seen["/dev/sr0"].Error(), "no squashfs") {
		t.Errorf("found %+v, seen %v: %v", got, seen, err)
	}
}

func TestTheNodesOwnDiskComesFirst(t *testing.T) {
	image, root := testImage(t)
	dir, sys := t.TempDir(), fstest.MapFS{}
	for name, label := range map[string]string{"sda3": "Appended3", "sdb2": "ROOT-A"} {
		if err := os.WriteFile(filepath.Join(dir, name), image, 0o600); err != nil {
			t.Fatal(err)
		}
		sys["sys/class/block/"+name+"/uevent"] = &fstest.MapFile{Data: []byte("DEVTYPE=partition\nPARTNAME=" + label + "\n")}
	}
	open := func(path string) (*os.File, error) { return os.Open(filepath.Join(dir, filepath.Base(path))) }
	if got, seen, err := lookForRoot(sys, open, search{want: root, slots: true}); err != nil || got.device != "/dev/sdb2" {
		t.Errorf("found %+v, seen %v: %v", got, seen, err)
	}
	if got, seen, err := lookForRoot(sys, open, search{want: root}); err != nil || got.device != "/dev/sda3" || got.slot {
		t.Errorf("with the slots left out: found %+v, seen %v: %v", got, seen, err)
	}
}
