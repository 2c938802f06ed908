package netboot

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/keelson-os/keelson/pkg/uki"
)

// Image is what machines boot: a unified kernel image whose initramfs has the
// installation medium in it. Its methods may be called from several goroutines.
type Image struct {
	parts *uki.Image
	file  *os.File
	size  int64
}

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
	parts, err := uki.Read(f, info.Size())
	if err != nil {
		return nil, err
	}
	return &Image{parts: parts, file: f, size: info.Size()}, nil
}

// Close closes the image's file.
func (i *Image) Close() error { return i.file.Close() }

// Signed tells whether the image has a signature, so that its command line must
// stay as it is.
func (i *Image) Signed() bool { return i.parts.Signed }

// Architecture is that of the machines that the image is for, in Go's terms.
func (i *Image) Architecture() string { return i.parts.Architecture }

// CommandLine is the kernel command line of the image.
func (i *Image) CommandLine() string { return i.parts.CommandLine }

// Kernel and Initrd are the image's parts, for boot loaders that want them apart.
func (i *Image) Kernel() io.ReadSeeker { return again(i.parts.Kernel) }

// Initrd is described at Kernel.
func (i *Image) Initrd() io.ReadSeeker { return again(i.parts.Initrd) }

// again reads a section from its beginning, for one reader.
func again(s *io.SectionReader) io.ReadSeeker { return io.NewSectionReader(s, 0, s.Size()) }

// WithArgument is the whole image with one more argument on its command line;
// none is added if it is "".
func (i *Image) WithArgument(argument string) (io.ReadSeeker, error) {
	if argument == "" {
		return io.NewSectionReader(i.file, 0, i.size), nil
	}
	if i.parts.Signed {
		return nil, fmt.Errorf("the image is signed, so that %s cannot be added to its command line: build it with -kernel-arg", argument)
	}
	text, room := i.CommandLine()+" "+argument, i.parts.CommandLineRoom
	if len(text) > room {
		return nil, fmt.Errorf("the image's command line has room for %d bytes, not for the %d with %s", room, len(text), argument)
	}
	text += strings.Repeat(" ", room-len(text))
	return io.NewSectionReader(overlay{i.file, i.parts.CommandLineAt, []byte(text)}, 0, i.size), nil
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
