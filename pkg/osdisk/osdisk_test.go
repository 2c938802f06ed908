package osdisk

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/diskfs/go-diskfs/backend"
	"github.com/diskfs/go-diskfs/backend/file"
	"github.com/diskfs/go-diskfs/filesystem/fat32"
	"github.com/diskfs/go-diskfs/partition/gpt"
)

const testSize = MinSize + 12345*512

func emptyDisk(t *testing.T, size int64) (*os.File, backend.Storage) {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "disk"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	return f, file.New(f, false)
}

func TestNewTable(t *testing.T) {
	for _, sectorSize := range []int{512, 4096} {
		table := NewTable(testSize, sectorSize)
		var end uint64
		for _, p := range table.Partitions {
			start := p.Start * uint64(sectorSize)
			if start%align != 0 || p.Size%align != 0 || start < end {
				t.Errorf("sectors of %d: %s starts at %d with %d bytes", sectorSize, p.Name, start, p.Size)
			}
			end = start + p.Size
		}
		if left := testSize - int(end); left < 34*sectorSize || left > 2*align {
			t.Errorf("sectors of %d: %d bytes are left for the backup table", sectorSize, left)
		}
		if !IsOwn(table) {
			t.Errorf("sectors of %d: not taken for our own", sectorSize)
		}
	}
}

func TestOnlyWholeTablesAreOurs(t *testing.T) {
	for name, change := range map[string]func(*gpt.Table){
		"another type": func(table *gpt.Table) { table.Partitions[0].Type = gpt.LinuxFilesystem },
		"another name": func(table *gpt.Table) { table.Partitions[1].Name = "ROOT" },
		"one is missing": func(table *gpt.Table) {
			table.Partitions = table.Partitions[:len(table.Partitions)-1]
		},
		"one is there twice": func(table *gpt.Table) { table.Partitions[2].Name = RootA.Name },
	} {
		table := NewTable(testSize, 512)
		change(table)
		if IsOwn(table) {
			t.Errorf("%s: taken for our own", name)
		}
	}
}

func TestEntryNames(t *testing.T) {
	for name, want := range map[string]Entry{
		"keelson-1-a.efi":       {Generation: 1, Slot: SlotA},
		"keelson-12-b+3.efi":    {Generation: 12, Slot: SlotB, Counted: true, Left: 3},
		"keelson-12-b+0-3.efi":  {Generation: 12, Slot: SlotB, Counted: true, Done: 3},
		"keelson-120-a+2-1.efi": {Generation: 120, Slot: SlotA, Counted: true, Left: 2, Done: 1},
	} {
		got, ok := ParseEntry(name)
		if !ok || got != want || got.FileName() != name {
			t.Errorf("%s: %+v, %v, again %s", name, got, ok, got.FileName())
		}
	}
	for _, name := range []string{
		"", "keelson-1-c.efi", "keelson--a.efi", "keelson-1-a.efi.tmp", "keelson-1-a+.efi", "keelson-1-a+3-.efi", "debian.efi",
		"keelson-99999999999999999999-a.efi", "xkeelson-1-a.efi",
	} {
		if e, ok := ParseEntry(name); ok {
			t.Errorf("%q was taken for %+v", name, e)
		}
	}
}

func testImage(size int) Image {
	return Image{
		Architecture: "amd64", Loader: []byte("loader"), Kernel: bytes.Repeat([]byte("kernel"), 1<<20),
		Root: bytes.NewReader(bytes.Repeat([]byte{7}, size)), RootSize: int64(size),
	}
}

func noSync() error { return nil }

func TestInstall(t *testing.T) {
	f, disk := emptyDisk(t, testSize)
	table := NewTable(testSize, 512)
	var told int64
	if err := Install(disk, table, testImage(3*mebibyte+512), noSync, func(done, _ int64) { told = done }); err != nil {
		t.Fatal(err)
	}
	root := make([]byte, 3*mebibyte+513)
	if _, err := f.ReadAt(root, offsetOf(table, RootA)); err != nil {
		t.Fatal(err)
	}
	if want := append(bytes.Repeat([]byte{7}, 3*mebibyte+512), 0); !bytes.Equal(root, want) || told != 3*mebibyte+512 {
		t.Errorf("the root image is not in its slot, or %d bytes were told", told)
	}
	esp, err := fat32.Read(disk, int64(ESP.Size), offsetOf(table, ESP), 512)
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		"/EFI/BOOT/BOOTX64.EFI":      "loader",
		"/EFI/Linux/keelson-1-a.efi": string(bytes.Repeat([]byte("kernel"), 1<<20)),
		"/loader/loader.conf":        loaderConfig,
	} {
		if got, err := esp.ReadFile(path[1:]); err != nil || string(got) != want {
			t.Errorf("%s: %d bytes, %v", path, len(got), err)
		}
	}
}

func TestInstallFails(t *testing.T) {
	broken := errors.New("I/O error")
	syncs := 0
	for name, test := range map[string]struct {
		image func() Image
		sync  Sync
		want  string
	}{
		"a root image that is too large": {func() Image { i := testImage(0); i.RootSize = int64(RootA.Size) + 1; return i }, noSync, "and a slot"},
		"a root image that ends early":   {func() Image { i := testImage(mebibyte); i.RootSize++; return i }, noSync, "are missing"},
		"a disk that fails":              {func() Image { return testImage(mebibyte) }, func() error { return broken }, "I/O error"},
		"a disk that fails later": {func() Image { return testImage(mebibyte) }, func() error {
			if syncs++; syncs > 2 {
				return broken
			}
			return nil
		}, "I/O error"},
	} {
		_, disk := emptyDisk(t, testSize)
		err := Install(disk, NewTable(testSize, 512), test.image(), test.sync, nil)
		if err == nil || !bytes.Contains([]byte(err.Error()), []byte(test.want)) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestInstalledIsKept(t *testing.T) {
	table := NewTable(testSize, 512)
	if IsInstalled(table) {
		t.Error("a new table is installed")
	}
	SetInstalled(table, true)
	f, _ := emptyDisk(t, testSize)
	if err := WriteTable(f, table, testSize); err != nil {
		t.Fatal(err)
	}
	read, err := gpt.Read(f, 512, 512)
	if err != nil || !IsOwn(read) || !IsInstalled(read) {
		t.Errorf("read back: %v", err)
	}
	SetInstalled(read, false)
	if IsInstalled(read) {
		t.Error("still installed")
	}
}

func TestGrow(t *testing.T) {
	table := NewTable(testSize, 512)
	before := *Ephemeral.Find(table)
	if Grow(table, testSize, 512) {
		t.Error("a disk of the same size made a difference")
	}
	const larger = testSize + 8*gibibyte
	if !Grow(table, larger, 512) {
		t.Fatal("a larger disk made no difference")
	}
	after := Ephemeral.Find(table)
	if after.Start != before.Start || after.Size != before.Size+8*gibibyte || after.Size != (after.End-after.Start+1)*512 {
		t.Errorf("it was %+v, and is %+v", before, *after)
	}
	f, _ := emptyDisk(t, larger)
	if err := WriteTable(f, table, larger); err != nil {
		t.Fatal(err)
	}
	if read, err := ReadTable(f, larger/512, 512); err != nil || !IsOwn(read) {
		t.Errorf("read back: %v", err)
	}
	// Someone's own partition behind ours stays where it is.
	other := NewTable(testSize, 512)
	other.Partitions = append(other.Partitions, &gpt.Partition{
		Index: 7, Start: before.End + 1, End: before.End + 8, Size: 8 * 512, Type: gpt.LinuxFilesystem, Name: "data",
	})
	if Grow(other, larger, 512) {
		t.Error("it grew over another partition")
	}
}

func TestReadTable(t *testing.T) {
	f, _ := emptyDisk(t, testSize)
	if _, err := ReadTable(f, testSize/512, 512); !errors.Is(err, ErrNoTable) {
		t.Error(err)
	}
	if err := WriteTable(f, NewTable(testSize, 512), testSize); err != nil {
		t.Fatal(err)
	}
	table, err := ReadTable(f, testSize/512, 512)
	if err != nil || len(RootImages(table)) != 2 {
		t.Errorf("%d slots, %v", len(RootImages(table)), err)
	}
	if _, err := f.WriteAt([]byte{0xff, 0xff, 0xff, 0xff}, 512+80); err != nil { // so many entries would not fit the memory
		t.Fatal(err)
	}
	if _, err := ReadTable(f, testSize/512, 512); !errors.Is(err, ErrNoTable) {
		t.Error(err)
	}
}

// What is written an hour later is the same.
func TestFATHasNoTimeOfItsOwn(t *testing.T) {
	files := []File{{"EFI/BOOT/BOOTX64.EFI", bytes.Repeat([]byte("x"), 2*mebibyte)}, {"EFI/Linux/keelson-1-a.efi", []byte("k")}, {"loader/loader.conf", []byte("timeout 0\n")}}
	for _, size := range []int64{5 * mebibyte, 300 * mebibyte} {
		synctest.Test(t, func(t *testing.T) {
			var sums [2][32]byte
			for i := range sums {
				f, disk := emptyDisk(t, size+mebibyte)
				if err := WriteFAT(disk, mebibyte, size, "TEST", files, noSync); err != nil {
					t.Fatal(err)
				}
				content, err := os.ReadFile(f.Name())
				if err != nil {
					t.Fatal(err)
				}
				sums[i] = sha256.Sum256(content)
				time.Sleep(time.Hour) // of the test's clock
			}
			if sums[0] != sums[1] {
				t.Errorf("%d bytes: two file systems with the same files differ", size)
			}
		})
	}
	_, disk := emptyDisk(t, mebibyte)
	if err := settleTimes(disk, 0); err == nil {
		t.Error("times were set in what is no file system")
	}
}

func TestFAT(t *testing.T) {
	for _, size := range []int64{5 * mebibyte, 33 * mebibyte, 34 * mebibyte, 300 * mebibyte} {
		_, disk := emptyDisk(t, size+mebibyte)
		files := []File{{"EFI/BOOT/BOOTX64.EFI", bytes.Repeat([]byte("x"), 2*mebibyte)}, {"loader/loader.conf", []byte("timeout 0\n")}}
		syncs := 0
		if err := WriteFAT(disk, mebibyte, size, "TEST", files, func() error { syncs++; return nil }); err != nil {
			t.Fatalf("%d bytes: %v", size, err)
		}
		if syncs != len(files) {
			t.Errorf("%d files, %d syncs", len(files), syncs)
		}
		for _, want := range files {
			if got, err := ReadFATFile(disk, mebibyte, size, want.Path); err != nil || !bytes.Equal(got, want.Content) {
				t.Errorf("%d bytes: %s has %d bytes, %v", size, want.Path, len(got), err)
			}
		}
		if _, err := ReadFATFile(disk, mebibyte, size, "EFI/none"); err == nil {
			t.Error("a file that is not there was read")
		}
	}
	_, disk := emptyDisk(t, 5*mebibyte)
	if err := WriteFAT(disk, 0, 5*mebibyte, "TEST", []File{{"large", make([]byte, 6*mebibyte)}}, noSync); err == nil {
		t.Error("a file that does not fit was written")
	}
}

// FuzzReadTable reads tables that someone made to be read: neither header may have
// more allocated than a table needs.
func FuzzReadTable(f *testing.F) {
	const sectors, sector = 4096, 512
	f.Add([]byte("EFI PART"), []byte("EFI PART"))
	huge := make([]byte, sector)
	copy(huge, "EFI PART")
	binary.LittleEndian.PutUint32(huge[80:], 1<<31)
	binary.LittleEndian.PutUint32(huge[84:], 1<<31)
	good := append([]byte(nil), huge...)
	binary.LittleEndian.PutUint64(good[72:], 2)
	binary.LittleEndian.PutUint32(good[80:], 128)
	binary.LittleEndian.PutUint32(good[84:], 128)
	f.Add(good, huge)
	f.Add(good, good)
	f.Fuzz(func(t *testing.T, first, last []byte) {
		file, err := os.Create(filepath.Join(t.TempDir(), "disk"))
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		if err := file.Truncate(sectors * sector); err != nil {
			t.Fatal(err)
		}
		for at, header := range map[int64][]byte{sector: first, (sectors - 1) * sector: last} {
			if _, err := file.WriteAt(header[:min(len(header), sector)], at); err != nil {
				t.Fatal(err)
			}
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		table, err := ReadTable(file, sectors, sector)
		runtime.ReadMemStats(&after)
		if used := after.TotalAlloc - before.TotalAlloc; used > 8<<20 {
			t.Errorf("%d bytes allocated", used)
		}
		if (table == nil) == (err == nil) {
			t.Errorf("table %v, error %v", table, err)
		}
	})
}

func TestAFileSystemHasRoomForItsFile(t *testing.T) {
	for _, size := range []int64{8 * mebibyte, 15 * mebibyte, minFAT32 - 256<<10 - 1, minFAT32, 50 * mebibyte, 200 * mebibyte} {
		fat := FATSizeFor(size)
		if fat > size+size/50+mebibyte {
			t.Errorf("a file of %d bytes gets a file system of %d", size, fat)
		}
		_, disk := emptyDisk(t, fat)
		files := []File{{FirmwareProgram("arm64"), make([]byte, size)}}
		if err := WriteFAT(disk, 0, fat, "TEST", files, noSync); err != nil {
			t.Errorf("a file of %d bytes: %v", size, err)
		}
	}
}

func TestFirmwareProgram(t *testing.T) {
	for arch, want := range map[string]string{"amd64": "EFI/BOOT/BOOTX64.EFI", "arm64": "EFI/BOOT/BOOTAA64.EFI"} {
		if got := FirmwareProgram(arch); got != want {
			t.Errorf("UEFI of %s starts %s, expected %s", arch, got, want)
		}
	}
}
