package osdisk

import (
	"fmt"
	"os"
	"path"
	"strings"

	"github.com/diskfs/go-diskfs/backend"
	"github.com/diskfs/go-diskfs/filesystem"
	"github.com/diskfs/go-diskfs/filesystem/fat16"
	"github.com/diskfs/go-diskfs/filesystem/fat32"
)

// efiNames are what UEFI calls architectures, by Go's names (UEFI specification,
// 3.5.1.1).
var efiNames = map[string]string{"amd64": "x64", "arm64": "aa64"}

// EFIName is a part of the names of EFI programs for an architecture, which is in
// Go's terms.
func EFIName(arch string) string { return efiNames[arch] }

// FirmwareProgram is what UEFI of an architecture starts from a disk that it
// knows nothing else of, below the ESP's root.
func FirmwareProgram(arch string) string {
	return "EFI/BOOT/BOOT" + strings.ToUpper(EFIName(arch)) + ".EFI"
}

// loaderConfig has the loader start the best entry at once, and nothing else:
// whoever has a keyboard must not change the command line.
const loaderConfig = "timeout 0\neditor no\nauto-entries no\nauto-firmware no\n"

// File is a file of a FAT file system: its path below the root, and its content.
type File struct {
	Path    string
	Content []byte
}

// WriteFAT makes a FAT file system of size bytes at offset, with the files in
// their order: before each one sync is called, so that on the disk is none
// without those before it. Its width follows from its size, as the firmware
// expects. The same input gives the same bytes: everything bears the time fatEpoch.
func WriteFAT(disk backend.Storage, offset, size int64, label string, files []File, sync Sync) error {
	fat, err := createFAT(disk, offset, size, label)
	if err != nil {
		return fmt.Errorf("make the FAT file system %s: %w", label, err)
	}
	made := map[string]bool{".": true}
	for _, f := range files {
		if err := sync(); err != nil {
			return err
		}
		if err := makeFolders(fat, path.Dir(f.Path), made); err != nil {
			return fmt.Errorf("make the folder of %s: %w", f.Path, err)
		}
		if err := writeFile(fat, f); err != nil {
			return fmt.Errorf("write %s to the file system %s: %w", f.Path, label, err)
		}
	}
	if err := settleTimes(disk, offset); err != nil {
		return fmt.Errorf("set the times in the file system %s: %w", label, err)
	}
	return nil
}

// sectorFAT is what a sector of the file systems made here has, in bytes.
const sectorFAT = 512

// minFAT32 in bytes has the 65,525 clusters by which FAT32 is told from FAT16,
// at 512 bytes each.
const minFAT32 = 34 * mebibyte

// FATSizeFor is the size of a file system with room for a file of so many bytes,
// and little more.
func FATSizeFor(file int64) int64 {
	// For the tables of FAT16, the folders, and what rounding up to clusters takes.
	const margin, unit = 256 << 10, 64 << 10
	size := (file + margin + unit - 1) / unit * unit
	if size >= minFAT32 {
		// FAT32's two tables have eight bytes for a cluster, which is a 64th: and
		// something for themselves.
		size += (file/60 + unit - 1) / unit * unit
	}
	return size
}

func createFAT(disk backend.Storage, offset, size int64, label string) (filesystem.FileSystem, error) {
	const reproducible = true
	if size < minFAT32 {
		return fat16.Create(disk, size, offset, sectorFAT, label, reproducible)
	}
	return fat32.Create(disk, size, offset, sectorFAT, label, reproducible)
}

func makeFolders(fat filesystem.FileSystem, folder string, made map[string]bool) error {
	if made[folder] {
		return nil
	}
	if err := makeFolders(fat, path.Dir(folder), made); err != nil {
		return err
	}
	made[folder] = true
	return fat.Mkdir("/" + folder)
}

func writeFile(fat filesystem.FileSystem, f File) error {
	to, err := fat.OpenFile("/"+f.Path, os.O_CREATE|os.O_RDWR)
	if err != nil {
		return err
	}
	// At once: each write allocates its clusters.
	if _, err := to.Write(f.Content); err != nil {
		return err
	}
	return to.Close()
}

// ReadFATFile reads a file of a FAT file system of size bytes at offset, such as
// WriteFAT makes.
func ReadFATFile(disk backend.Storage, offset, size int64, name string) ([]byte, error) {
	var fat filesystem.FileSystem
	var err error
	if size < minFAT32 {
		fat, err = fat16.Read(disk, size, offset, sectorFAT)
	} else {
		fat, err = fat32.Read(disk, size, offset, sectorFAT)
	}
	if err != nil {
		return nil, fmt.Errorf("read the FAT file system: %w", err)
	}
	content, err := fat.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	return content, nil
}
