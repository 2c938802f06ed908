package install

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/diskfs/go-diskfs/backend/file"
	"github.com/diskfs/go-diskfs/partition/gpt"

	"github.com/keelson-os/keelson/pkg/osdisk"
)

// medium makes a medium as the build does: the ESP from 1 MiB, the root image
// from 20 MiB on.
func medium(t *testing.T, change func(*gpt.Table)) *os.File {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "medium"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	const size, mebibyte = 32 << 20, 1 << 20
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	kernel := osdisk.File{Path: osdisk.FirmwareProgram(runtime.GOARCH), Content: bytes.Repeat([]byte("kernel"), 1<<18)}
	if err := osdisk.WriteFAT(file.New(f, false), mebibyte, 16*mebibyte, "KEELSON", []osdisk.File{kernel}, func() error { return nil }); err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt(bytes.Repeat([]byte("root"), 1<<18), 20*mebibyte); err != nil {
		t.Fatal(err)
	}
	const sectors = mebibyte / 512
	table := &gpt.Table{LogicalSectorSize: 512, PhysicalSectorSize: 512, ProtectiveMBR: true, Partitions: []*gpt.Partition{
		{Index: 2, Start: sectors, End: 17*sectors - 1, Size: 16 * mebibyte, Type: osdisk.ESP.Type, Name: "Appended2"},
		{Index: 3, Start: 20 * sectors, End: 21*sectors - 1, Size: mebibyte, Type: osdisk.RootA.Type, Name: "Appended3"},
	}}
	if change != nil {
		change(table)
	}
	if err := table.Write(f, size); err != nil {
		t.Fatal(err)
	}
	return f
}

func TestReadAMedium(t *testing.T) {
	image, err := read(medium(t, nil))
	if err != nil {
		t.Fatal(err)
	}
	root, err := io.ReadAll(image.Root)
	if err != nil || !bytes.Equal(root, bytes.Repeat([]byte("root"), 1<<18)) || image.RootSize != 1<<20 {
		t.Errorf("a root image of %d bytes, said to have %d: %v", len(root), image.RootSize, err)
	}
	if !bytes.Equal(image.Kernel, bytes.Repeat([]byte("kernel"), 1<<18)) {
		t.Errorf("a kernel of %d bytes", len(image.Kernel))
	}
}

func TestReadWhatIsNoMedium(t *testing.T) {
	for want, change := range map[string]func(*gpt.Table){
		"it has 0 root images": func(table *gpt.Table) { table.Partitions[1].Type = gpt.LinuxFilesystem },
		"a kernel of 0 bytes":  func(table *gpt.Table) { table.Partitions[0].Type = gpt.LinuxFilesystem },
	} {
		if _, err := read(medium(t, change)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q: %v", want, err)
		}
	}
	f := medium(t, nil)
	if _, err := f.WriteAt(make([]byte, 512), 512); err != nil {
		t.Fatal(err)
	}
	if _, err := read(f); !errors.Is(err, osdisk.ErrNoTable) {
		t.Error(err)
	}
	if _, _, err := Open(Source{Kind: Installed, Device: "vda"}); !errors.Is(err, ErrNoMedium) {
		t.Error(err)
	}
}
