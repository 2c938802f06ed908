package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"strconv"

	"github.com/diskfs/go-diskfs/backend/file"

	"github.com/keelson-os/keelson/pkg/osdisk"
)

// makeISO makes the installation medium: one image that UEFI boots from a CD and
// from a disk. It holds no files of ISO 9660; its GPT has a small ESP with the
// kernel image, and the root image as a partition of its own.
func (b *build) makeISO(ctx context.Context) error {
	var inputs []string
	for _, f := range []string{"keelson.efi", "rootfs.img"} {
		sum, err := b.digest(b.path(f))
		if err != nil {
			return err
		}
		inputs = append(inputs, sum)
	}
	layout, err := b.sourceDigest("pkg/osdisk")
	if err != nil {
		return err
	}
	return b.once("ISO image", []string{b.path("keelson.iso")}, append(inputs, layout), func(partial []string) error {
		dir, err := os.MkdirTemp(b.path("build"), "iso-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(dir)
		esp, empty := dir+"/esp.img", dir+"/empty"
		if err := os.Mkdir(empty, 0o755); err != nil {
			return err
		}
		// Its time becomes that of the medium's root.
		if err := os.Chtimes(empty, b.epoch, b.epoch); err != nil {
			return err
		}
		if err := b.writeMediumESP(esp); err != nil {
			return err
		}
		return b.writeISO(ctx, partial[0], esp, empty)
	})
}

// writeMediumESP makes the ESP of a medium: the firmware starts the kernel image
// itself.
func (b *build) writeMediumESP(output string) error {
	kernel, err := os.ReadFile(b.path("keelson.efi"))
	if err != nil {
		return err
	}
	esp, err := os.Create(output)
	if err != nil {
		return err
	}
	defer esp.Close()
	size := osdisk.FATSizeFor(int64(len(kernel)))
	if err := esp.Truncate(size); err != nil {
		return err
	}
	files := []osdisk.File{{Path: osdisk.FirmwareProgram(b.arch.name), Content: kernel}}
	if err := osdisk.WriteFAT(file.New(esp, false), 0, size, "KEELSON", files, func() error { return nil }); err != nil {
		return err
	}
	return esp.Close()
}

func (b *build) writeISO(ctx context.Context, output, esp, files string) error {
	cmd := exec.CommandContext(ctx, "xorriso", "-as", "mkisofs", "-quiet",
		"-volid", "KEELSON", "-o", output,
		// A CD's firmware finds the ESP through El Torito, a disk's through the GPT.
		"-append_partition", "2", string(osdisk.ESP.Type), esp,
		"-append_partition", "3", string(osdisk.RootA.Type), b.path("rootfs.img"),
		"-appended_part_as_gpt", "-e", "--interval:appended_partition_2:all::", "-no-emul-boot",
		files)
	// xorriso takes all times, and the GUIDs, from it.
	cmd.Env = append(os.Environ(), "SOURCE_DATE_EPOCH="+strconv.FormatInt(b.epoch.Unix(), 10))
	printed, err := cmd.CombinedOutput()
	if err != nil {
		return commandError(cmd, err, string(printed))
	}
	if _, err := os.Stat(output); err != nil {
		return fmt.Errorf("xorriso made no image:\n%s", printed)
	}
	return fixBootSize(output)
}

// fixBootSize corrects what El Torito says of the ESP's size if xorriso could not
// count its sectors of 512 bytes in the 16 bits there are, and wrote zero: firmware
// would take the rest of the ISO 9660 volume, which ends before the ESP begins. The
// highest number works: EDK II, which most firmware is made of, takes it for blocks
// of the CD's, of 2,048 bytes.
func fixBootSize(iso string) error {
	f, err := os.OpenFile(iso, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	// El Torito 1.0: the boot record is block 17, and has the catalog's block at
	// 0x47; the catalog's second entry of 32 bytes is the default one, and has the
	// count at 6.
	field := make([]byte, 4)
	if _, err := f.ReadAt(field, 17*isoBlock+0x47); err != nil {
		return fmt.Errorf("read the boot record of %s: %w", iso, err)
	}
	count := int64(binary.LittleEndian.Uint32(field))*isoBlock + 32 + 6
	if _, err := f.ReadAt(field[:2], count); err != nil {
		return fmt.Errorf("read the boot catalog of %s: %w", iso, err)
	}
	if binary.LittleEndian.Uint16(field) > 0 {
		return nil
	}
	if _, err := f.WriteAt([]byte{0xff, 0xff}, count); err != nil {
		return fmt.Errorf("write the boot catalog of %s: %w", iso, err)
	}
	return f.Close()
}

// isoBlock is what ISO 9660 counts in, in bytes.
const isoBlock = 2048
