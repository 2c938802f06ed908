package netboot

import (
	"bytes"
	"debug/pe"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
)

// Image is what machines boot: a unified kernel image whose initramfs has the
// installation medium in it. Its methods may be called from several goroutines.
type Image struct {
	file    *os.File
	size    int64
	cmdline []byte
	// cmdlineAt is where the command line is, in bytes from the file's beginning;
	// cmdlineRoom is how long it may become.
	cmdlineAt   int64
	cmdlineRoom int
	kernel      *io.SectionReader
	initrd      *io.SectionReader
	signed      bool
}

// securityDirectory is the entry of an EFI program's data directories that tells
// where its signatures are (PE format, "attribute certificate table").
const securityDirectory = 4

// OpenImage opens the image that the build makes as keelson-netboot.efi.
func OpenImage(path string) (*Image, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open the image for network boot: %w", err)
	}
	image, err := readImage(f)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s is no image for network boot; take keelson-netboot.efi of the build: %w", path, err), f.Close())
	}
	return image, nil
}

func readImage(f *os.File) (*Image, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	program, err := pe.NewFile(f)
	if err != nil {
		return nil, err
	}
	image := &Image{file: f, size: info.Size()}
	if header, ok := program.OptionalHeader.(*pe.OptionalHeader64); ok {
		image.signed = header.DataDirectory[securityDirectory].Size > 0
	}
	section := func(name string) (*pe.Section, error) {
		s := program.Section(name)
		if s == nil {
			return nil, fmt.Errorf("it has no section %s", name)
		}
		if int64(s.Offset)+int64(s.VirtualSize) > image.size || s.VirtualSize > s.Size {
			return nil, fmt.Errorf("its section %s is cut off", name)
		}
		return s, nil
	}
	cmdline, err := section(".cmdline")
	if err != nil {
		return nil, err
	}
	image.cmdlineAt, image.cmdlineRoom = int64(cmdline.Offset), int(cmdline.VirtualSize)
	image.cmdline = make([]byte, image.cmdlineRoom)
	if _, err := f.ReadAt(image.cmdline, image.cmdlineAt); err != nil {
		return nil, err
	}
	image.cmdline = bytes.Trim(image.cmdline, " \n\x00")
	for name, into := range map[string]**io.SectionReader{".linux": &image.kernel, ".initrd": &image.initrd} {
		s, err := section(name)
		if err != nil {
			return nil, err
		}
		*into = io.NewSectionReader(f, int64(s.Offset), int64(s.VirtualSize))
	}
	return image, nil
}

// Close closes the image's file.
func (i *Image) Close() error { return i.file.Close() }

// Signed tells whether the image has a signature, so that its command line must
// stay as it is.
func (i *Image) Signed() bool { return i.signed }

// CommandLine is the kernel command line of the image.
func (i *Image) CommandLine() string { return string(i.cmdline) }

// Kernel and Initrd are the image's parts, for boot loaders that want them apart.
func (i *Image) Kernel() io.ReadSeeker { return io.NewSectionReader(i.kernel, 0, i.kernel.Size()) }

// Initrd is described at Kernel.
func (i *Image) Initrd() io.ReadSeeker { return io.NewSectionReader(i.initrd, 0, i.initrd.Size()) }

// WithArgument is the whole image with one more argument on its command line;
// none is added if it is "".
func (i *Image) WithArgument(argument string) (io.ReadSeeker, error) {
	if argument == "" {
		return io.NewSectionReader(i.file, 0, i.size), nil
	}
	if i.signed {
		return nil, fmt.Errorf("the image is signed, so that %s cannot be added to its command line: build it with -kernel-arg", argument)
	}
	text := i.CommandLine() + " " + argument
	if len(text) > i.cmdlineRoom {
		return nil, fmt.Errorf("the image's command line has room for %d bytes, not for the %d with %s", i.cmdlineRoom, len(text), argument)
	}
	text += strings.Repeat(" ", i.cmdlineRoom-len(text))
	return io.NewSectionReader(overlay{i.file, i.cmdlineAt, []byte(text)}, 0, i.size), nil
}

// overlay is a file with some of its bytes replaced.
type overlay struct {
	io.ReaderAt
	at   int64
	with []byte
}

func (o overlay) ReadAt(p []byte, offset int64) (int, error) {
	n, err := o.ReaderAt.ReadAt(p, offset)
	start, end := max(offset, o.at), min(offset+int64(n), o.at+int64(len(o.with)))
	if start < end {
		copy(p[start-offset:end-offset], o.with[start-o.at:end-o.at])
	}
	return n, err
}
