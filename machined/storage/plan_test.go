package storage

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/diskfs/go-diskfs/partition/gpt"
	"github.com/google/go-cmp/cmp"

	"github.com/keelson-os/keelson/pkg/osdisk"
)

const testSize = 5 * 1024 * mebibyte

// emptyDisk is a file without blocks.
func emptyDisk(t *testing.T, size int64) *os.File {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "disk"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	return f
}

func write(t *testing.T, f *os.File, at int64, content string) {
	t.Helper()
	if _, err := f.WriteAt([]byte(content), at); err != nil {
		t.Fatal(err)
	}
}

// planFor observes and decides.
func planFor(t *testing.T, f *os.File, sectorSize int) (plan, error) {
	t.Helper()
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	o, err := observe(f, uint64(info.Size()), sectorSize)
	if err != nil {
		t.Fatal(err)
	}
	return decide("/dev/vda", o)
}

func TestNewTable(t *testing.T) {
	for _, sectorSize := range []int{512, 4096} {
		table := osdisk.NewTable(testSize+12345*512, sectorSize)
		var end uint64
		for _, p := range table.Partitions {
			start := p.Start * uint64(sectorSize)
			if start%mebibyte != 0 || p.Size%mebibyte != 0 || start < end {
				t.Errorf("sectors of %d: %s starts at %d with %d bytes", sectorSize, p.Name, start, p.Size)
			}
			end = start + p.Size
		}
		if left := testSize + 12345*512 - int(end); left < 34*sectorSize || left > 2*mebibyte {
			t.Errorf("sectors of %d: %d bytes are left for the backup table", sectorSize, left)
		}
	}
}

func TestEmptyDiskIsPartitionedAndThenLeftAlone(t *testing.T) {
	for _, sectorSize := range []int{512, 4096} {
		f := emptyDisk(t, testSize)
		both := []string{osdisk.State.Name, osdisk.Ephemeral.Name}
		p, err := planFor(t, f, sectorSize)
		if err != nil || p.table == nil || !slices.Equal(p.format, both) {
			t.Fatalf("sectors of %d: plan %+v, %v", sectorSize, p, err)
		}
		if err := osdisk.WriteTable(f, p.table, testSize); err != nil {
			t.Fatal(err)
		}
		table := p.table
		// Cut off before the file systems were whole: only those are left to do.
		if p, err = planFor(t, f, sectorSize); err != nil || p.table != nil || !slices.Equal(p.format, both) {
			t.Errorf("sectors of %d, partitioned: plan %+v, %v", sectorSize, p, err)
		}
		for _, entry := range table.Partitions {
			entry.Attributes |= formatted
		}
		if err := osdisk.WriteTable(f, table, testSize); err != nil {
			t.Fatal(err)
		}
		if p, err = planFor(t, f, sectorSize); err != nil || p.table != nil || p.format != nil {
			t.Errorf("sectors of %d, formatted: plan %+v, %v", sectorSize, p, err)
		}
	}
}

// recorder remembers the writes to a disk, in order.
type recorder struct {
	*os.File
	writes []struct {
		at      int64
		content []byte
	}
}

func (r *recorder) WriteAt(b []byte, at int64) (int, error) {
	r.writes = append(r.writes, struct {
		at      int64
		content []byte
	}{at, bytes.Clone(b)})
	return r.File.WriteAt(b, at)
}

func TestPowerCutsDuringTheFirstPartitioning(t *testing.T) {
	r := &recorder{File: emptyDisk(t, testSize)}
	if err := osdisk.WriteTable(r, osdisk.NewTable(testSize, 512), testSize); err != nil {
		t.Fatal(err)
	}
	if len(r.writes) < 5 {
		t.Fatalf("only %d writes were seen", len(r.writes))
	}
	for done := range r.writes {
		f := emptyDisk(t, testSize)
		for _, w := range r.writes[:done] {
			write(t, f, w.at, string(w.content))
		}
		p, err := planFor(t, f, 512)
		if err != nil {
			t.Errorf("after %d of %d writes: %v", done, len(r.writes), err)
			continue
		}
		if !slices.Equal(p.format, []string{osdisk.State.Name, osdisk.Ephemeral.Name}) {
			t.Errorf("after %d writes: format %v", done, p.format)
		}
		if p.table == nil {
			continue
		}
		if err := osdisk.WriteTable(f, p.table, testSize); err != nil {
			t.Errorf("after %d writes, again: %v", done, err)
		}
		if p, err := planFor(t, f, 512); err != nil || p.table != nil {
			t.Errorf("after %d writes, again: plan %+v, %v", done, p, err)
		}
	}
}

func TestForeignDataIsRefused(t *testing.T) {
	foreign := func(names ...string) func(*testing.T, *os.File) {
		return func(t *testing.T, f *os.File) {
			table := osdisk.NewTable(testSize, 512)
			for i, name := range names {
				table.Partitions[i].Name = name
				table.Partitions[i].Type = gpt.LinuxFilesystem
			}
			if err := osdisk.WriteTable(f, table, testSize); err != nil {
				t.Fatal(err)
			}
		}
	}
	at := func(offset int64, content string) func(*testing.T, *os.File) {
		return func(t *testing.T, f *os.File) { write(t, f, offset, content) }
	}
	for want, prepare := range map[string]func(*testing.T, *os.File){
		"an ext2, ext3 or ext4 file system": at(0x438, "\x53\xef"),
		"an XFS file system":                at(0, "XFSB"),
		"an encrypted LUKS volume":          at(0, "LUKS\xba\xbe"),
		"an MBR partition table":            at(510, "\x55\xaa"),
		"data of an unknown kind":           at(testSize-4096, "x"),
		"a damaged GPT":                     at(512, "EFI PART"),
		`partitions of another system: 1 "boot" of 512 MiB, 2 "root" of`:           foreign("boot", "root", "", "", "", ""),
		`partitions of another system: 1 "ESP" of 512 MiB, 2 "ROOT-A" of 1024 MiB`: foreign("ESP", "ROOT-A"),
		`4 "META" of 1 MiB, 5 "STATE" of 256 MiB, 6 "EPHEMERAL" of 2301 MiB`:       foreign("ESP", "ROOT-A", "ROOT-B", "META", "STATE"),
	} {
		f := emptyDisk(t, testSize)
		prepare(t, f)
		p, err := planFor(t, f, 512)
		var refused *ForeignDataError
		if !errors.As(err, &refused) || !strings.Contains(err.Error(), want) || p.table != nil || p.format != nil {
			t.Errorf("want %q: plan %+v, %v", want, p, err)
		}
	}
}

func TestOurOldBackupUnderForeignDataIsNotRevived(t *testing.T) {
	f := emptyDisk(t, testSize)
	if err := osdisk.WriteTable(f, osdisk.NewTable(testSize, 512), testSize); err != nil {
		t.Fatal(err)
	}
	write(t, f, 0, string(make([]byte, 64<<10)))
	write(t, f, 0x438, "\x53\xef")
	if p, err := planFor(t, f, 512); err == nil || !strings.Contains(err.Error(), "ext4") {
		t.Errorf("plan %+v, %v", p, err)
	}
}

func TestDamagedTables(t *testing.T) {
	table := func() *os.File {
		f := emptyDisk(t, testSize)
		if err := osdisk.WriteTable(f, osdisk.NewTable(testSize, 512), testSize); err != nil {
			t.Fatal(err)
		}
		return f
	}
	f := table()
	write(t, f, 512+60, "damage") // the disk's GUID: the checksum is wrong
	if p, err := planFor(t, f, 512); err != nil || p.table == nil {
		t.Errorf("a damaged first copy: plan %+v, %v", p, err)
	}
	write(t, f, testSize-512+60, "damage")
	if p, err := planFor(t, f, 512); err == nil || !strings.Contains(err.Error(), "a damaged GPT") {
		t.Errorf("two damaged copies: plan %+v, %v", p, err)
	}
	f = table()
	write(t, f, 512+80, "\xff\xff\xff\xff") // so many entries would not fit the memory
	if p, err := planFor(t, f, 512); err == nil || !strings.Contains(err.Error(), "a damaged GPT") {
		t.Errorf("an absurd number of entries: plan %+v, %v", p, err)
	}
}

func TestSmallDisk(t *testing.T) {
	for _, size := range []int64{0, 512, 64 * mebibyte, osdisk.MinSize - mebibyte} {
		_, err := planFor(t, emptyDisk(t, size), 512)
		if err == nil || !strings.Contains(err.Error(), "needs at least 4096 MiB") {
			t.Errorf("%d bytes: %v", size, err)
		}
	}
}

func TestMachineID(t *testing.T) {
	dir := t.TempDir()
	first, err := machineID(dir)
	if err != nil || !machineIDPattern.MatchString(first) {
		t.Fatalf("%q, %v", first, err)
	}
	again, err := machineID(dir)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(first, again); diff != "" {
		t.Error("the machine ID changed: ", diff)
	}
	if err := writeSynced(filepath.Join(dir, machineIDFile), []byte("garbage\n"), 0o444); err != nil {
		t.Fatal(err)
	}
	if id, err := machineID(dir); err == nil || !strings.Contains(err.Error(), "is damaged") {
		t.Errorf("%q, %v", id, err)
	}
}

func TestReservedBlocks(t *testing.T) {
	for size, want := range map[int64]string{
		8 << 30:    "5.000",
		1000 << 30: "0.600",
	} {
		if got := reserved(size); got != want {
			t.Errorf("of %d bytes %s per cent are kept, want %s", size, got, want)
		}
	}
}
