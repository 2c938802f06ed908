package install

import (
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"

	"github.com/diskfs/go-diskfs/backend/file"

	"github.com/keelson-os/keelson/pkg/osdisk"
)

// LoaderPath is where the root image has the boot loader.
var LoaderPath = "/usr/share/keelson/systemd-boot" + osdisk.EFIName(runtime.GOARCH) + ".efi"

// Open opens the image on a medium: its kernel is read, its root image is read
// as it is installed. Close it then.
func Open(source Source) (image osdisk.Image, close func() error, err error) {
	if source.Kind != Medium {
		return osdisk.Image{}, nil, ErrNoMedium
	}
	drive, err := os.Open("/dev/" + source.Device)
	if err != nil {
		return osdisk.Image{}, nil, fmt.Errorf("open the installation medium: %w", err)
	}
	image, err = read(drive)
	if err == nil {
		image.Loader, err = os.ReadFile(LoaderPath)
	}
	if err != nil {
		return osdisk.Image{}, nil, errors.Join(fmt.Errorf("read the installation medium %s: %w", drive.Name(), err), drive.Close())
	}
	return image, drive.Close, nil
}

// read finds the kernel and the root image on a medium.
func read(drive *os.File) (osdisk.Image, error) {
	size, err := drive.Seek(0, io.SeekEnd)
	if err != nil {
		return osdisk.Image{}, err
	}
	table, err := osdisk.ReadTable(drive, uint64(size)/osdisk.MediumSector, osdisk.MediumSector)
	if err != nil {
		return osdisk.Image{}, err
	}
	image := osdisk.Image{Architecture: runtime.GOARCH}
	for _, entry := range table.Partitions {
		if entry.Type == osdisk.ESP.Type {
			start, length := int64(entry.Start)*osdisk.MediumSector, int64(entry.End-entry.Start+1)*osdisk.MediumSector
			if image.Kernel, err = osdisk.ReadFATFile(file.New(drive, true), start, length, osdisk.FirmwareProgram(runtime.GOARCH)); err != nil {
				return osdisk.Image{}, err
			}
		}
	}
	roots := osdisk.RootImages(table)
	if len(roots) != 1 || image.Kernel == nil {
		return osdisk.Image{}, fmt.Errorf("it has %d root images and a kernel of %d bytes: write it anew", len(roots), len(image.Kernel))
	}
	image.RootSize = int64(roots[0].End-roots[0].Start+1) * osdisk.MediumSector
	image.Root = io.NewSectionReader(drive, int64(roots[0].Start)*osdisk.MediumSector, image.RootSize)
	return image, nil
}
