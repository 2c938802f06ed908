package uki

import (
	"bytes"
	"debug/pe"
	"fmt"
	"io"
)

// Image is the parts of a unified kernel image.
type Image struct {
	// Architecture is in Go's terms; "" if there are no nodes of it.
	Architecture string
	// CommandLine is the kernel's, without the blanks at its end.
	CommandLine string
	// CommandLineAt is where it is, in bytes from the image's beginning, and
	// CommandLineRoom how long it may become.
	CommandLineAt   int64
	CommandLineRoom int
	// Kernel and Initrd are read from the image.
	Kernel, Initrd *io.SectionReader
	// Signed tells whether the image has a signature, so that nothing of it may be
	// changed.
	Signed bool
}

// securityDirectory is the entry of an EFI program's data directories that tells
// where its signatures are (PE format, "attribute certificate table").
const securityDirectory = 4

// architectures are by an EFI program's machine type (PE format).
var architectures = map[uint16]string{pe.IMAGE_FILE_MACHINE_AMD64: "amd64", pe.IMAGE_FILE_MACHINE_ARM64: "arm64"}

// Read finds the parts of an image of size bytes. What is not an EFI program, has
// not all parts, or is cut off, is an error.
func Read(from io.ReaderAt, size int64) (*Image, error) {
	program, err := pe.NewFile(from)
	if err != nil {
		return nil, fmt.Errorf("read the EFI program: %w", err)
	}
	image := &Image{Architecture: architectures[program.Machine]}
	if header, ok := program.OptionalHeader.(*pe.OptionalHeader64); ok {
		image.Signed = header.DataDirectory[securityDirectory].Size > 0
	}
	for name, into := range map[string]**io.SectionReader{".linux": &image.Kernel, ".initrd": &image.Initrd} {
		s, err := section(program, name, size)
		if err != nil {
			return nil, err
		}
		*into = io.NewSectionReader(from, int64(s.Offset), int64(s.VirtualSize))
	}
	s, err := section(program, ".cmdline", size)
	if err != nil {
		return nil, err
	}
	image.CommandLineAt, image.CommandLineRoom = int64(s.Offset), int(s.VirtualSize)
	text := make([]byte, image.CommandLineRoom)
	if _, err := from.ReadAt(text, image.CommandLineAt); err != nil {
		return nil, fmt.Errorf("read the command line: %w", err)
	}
	image.CommandLine = string(bytes.Trim(text, " \n\x00"))
	return image, nil
}

func section(program *pe.File, name string, size int64) (*pe.Section, error) {
	s := program.Section(name)
	if s == nil {
		return nil, fmt.Errorf("it has no section %s", name)
	}
	if int64(s.Offset)+int64(s.VirtualSize) > size || s.VirtualSize > s.Size {
		return nil, fmt.Errorf("its section %s is cut off", name)
	}
	return s, nil
}
