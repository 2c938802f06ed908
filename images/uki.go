package main

import (
	"context"
	"debug/pe"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// bootPackage has systemd's boot loader and the stub that makes a kernel, its
// initramfs and its command line one EFI program.
const bootPackage = "systemd-boot-efi"

// kernelArguments are those of every way to boot, beside the consoles. A panic
// restarts the machine after five seconds, so that a boot that ends in one is
// counted; the console shows the kernel's warnings only, dmesg has the rest.
var kernelArguments = []string{"quiet", "panic=5"}

// makeUKI makes the unified kernel image: what the firmware or the boot loader
// starts, with the hash of the one root image that it accepts.
func (b *build) makeUKI(ctx context.Context) error {
	return b.uki(ctx, b.path("keelson.efi"), b.path("initramfs.cpio.zst"), 0)
}

// uki makes a unified kernel image whose command line has room for so many bytes,
// if it needs less.
func (b *build) uki(ctx context.Context, output, initrd string, room int) error {
	hash, err := os.ReadFile(b.path("rootfs.roothash"))
	if err != nil {
		return err
	}
	stub := filepath.Join(b.debian[bootPackage].dir, b.arch.efiStub())
	arguments := strings.Join(slices.Concat(b.consoles(), kernelArguments, []string{"keelson.roothash=" + strings.TrimSpace(string(hash))}, b.KernelArgs), " ")
	arguments += strings.Repeat(" ", max(0, room-len(arguments)))
	sections := []ukiSection{
		{name: ".osrel", text: b.osRelease()},
		{name: ".cmdline", text: arguments},
		{name: ".linux", file: b.path("vmlinuz")},
		{name: ".initrd", file: initrd},
	}
	inputs, err := b.secureBootInputs()
	if err != nil {
		return err
	}
	inputs = append(inputs, arguments, b.osRelease())
	for _, file := range []string{stub, b.path("vmlinuz"), initrd} {
		sum, err := b.digest(file)
		if err != nil {
			return err
		}
		inputs = append(inputs, sum)
	}
	return b.once("unified kernel image "+filepath.Base(output), []string{output}, inputs, func(partial []string) error {
		if b.SecureBoot.Key == "" {
			return b.writeUKI(ctx, stub, sections, partial[0])
		}
		unsigned := partial[0] + ".unsigned"
		defer os.Remove(unsigned)
		if err := b.writeUKI(ctx, stub, sections, unsigned); err != nil {
			return err
		}
		return b.sign(ctx, unsigned, partial[0])
	})
}

// ukiSection is a section that the stub looks for, with its content.
type ukiSection struct {
	name string
	text string
	file string // instead of text
}

// writeUKI adds the sections to the stub, one after the other, each on a page of
// its own: the stub hands them on where they were loaded.
func (b *build) writeUKI(ctx context.Context, stub string, sections []ukiSection, output string) error {
	dir, err := os.MkdirTemp(b.path("build"), "uki-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	next, err := endOfProgram(stub)
	if err != nil {
		return err
	}
	var args []string
	for _, s := range sections {
		if s.file == "" {
			s.file = filepath.Join(dir, s.name)
			if err := os.WriteFile(s.file, []byte(s.text), 0o644); err != nil {
				return err
			}
		}
		info, err := os.Stat(s.file)
		if err != nil {
			return err
		}
		args = append(args, "--add-section", s.name+"="+s.file, "--change-section-vma", fmt.Sprintf("%s=%#x", s.name, next))
		next = roundUp(next+uint64(info.Size()), blockSize)
	}
	if _, err := command(ctx, "", b.arch.tool("objcopy"), append(args, stub, output)...); err != nil {
		return err
	}
	return setProgramTime(output, b.epoch)
}

// setProgramTime replaces the time in an EFI program's header, which objcopy sets
// to the present, and clears the checksum over it, which no firmware looks at (PE
// format: the offset of the header is at 0x3c, its time 8 and its checksum 0x58
// bytes behind that).
func setProgramTime(file string, when time.Time) error {
	f, err := os.OpenFile(file, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	var field [4]byte
	if _, err := f.ReadAt(field[:], 0x3c); err != nil {
		return fmt.Errorf("read the header of %s: %w", file, err)
	}
	header := int64(binary.LittleEndian.Uint32(field[:]))
	for _, change := range []struct {
		at    int64
		value uint32
	}{{header + 8, uint32(when.Unix())}, {header + 0x58, 0}} {
		binary.LittleEndian.PutUint32(field[:], change.value)
		if _, err := f.WriteAt(field[:], change.at); err != nil {
			return fmt.Errorf("write the header of %s: %w", file, err)
		}
	}
	return f.Close()
}

// endOfProgram is the first free page behind an EFI program's sections, as an
// address.
func endOfProgram(file string) (uint64, error) {
	program, err := pe.Open(file)
	if err != nil {
		return 0, fmt.Errorf("read the EFI program %s: %w", file, err)
	}
	defer program.Close()
	header, ok := program.OptionalHeader.(*pe.OptionalHeader64)
	if !ok {
		return 0, fmt.Errorf("%s is no 64-bit EFI program", file)
	}
	var end uint64
	for _, s := range program.Sections {
		end = max(end, header.ImageBase+uint64(s.VirtualAddress)+uint64(s.VirtualSize))
	}
	return roundUp(end, blockSize), nil
}

func roundUp(n, unit uint64) uint64 { return (n + unit - 1) / unit * unit }

// osRelease is what the boot loader shows of an entry. It has no version and no
// IMAGE_VERSION on purpose: the loader would prefer the higher one, where the
// node's own order is in the entries' names (machined/upgrade).
func (b *build) osRelease() string {
	return fmt.Sprintf("ID=keelson\nNAME=Keelson\nPRETTY_NAME=\"Keelson %s\"\n", b.imageName())
}
