package provision

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/keelson-os/keelson/pkg/provision/qemu"
)

// Boot is how the machines of a cluster come to their operating system.
type Boot string

const (
	// BootDirect gives machines their kernel without any firmware, which is the
	// fastest. Their disks begin empty, and hold no operating system: such nodes
	// cannot be updated.
	BootDirect Boot = "direct"
	// BootDisk gives machines the disk image, and UEFI.
	BootDisk Boot = "disk"
	// BootISO gives machines an empty disk, the ISO image in a CD drive, and UEFI.
	BootISO Boot = "iso"
	// BootPXE, BootHTTP and BootIPXE give machines an empty disk, UEFI, and a boot
	// server on their network, of which they load the image by TFTP, by HTTP, or
	// with the iPXE in their network card's ROM.
	BootPXE  Boot = "pxe"
	BootHTTP Boot = "http"
	BootIPXE Boot = "ipxe"
)

// boots are the ways to boot, in the order of the help.
var boots = []Boot{BootDirect, BootDisk, BootISO, BootPXE, BootHTTP, BootIPXE}

// ParseBoot reads a way to boot; "" is BootDirect.
func ParseBoot(name string) (Boot, error) {
	if name == "" {
		return BootDirect, nil
	}
	for _, b := range boots {
		if string(b) == name {
			return b, nil
		}
	}
	return "", fmt.Errorf("unknown way to boot %q: use one of %s", name, boots)
}

// artifacts are the files of the image build that the way to boot needs.
func (b Boot) artifacts() []string {
	switch b {
	case BootDisk:
		return []string{diskFile}
	case BootISO:
		return []string{isoFile}
	case BootPXE, BootHTTP, BootIPXE:
		return []string{netbootFile}
	default:
		return []string{kernelFile, initrdFile, rootFile}
	}
}

// firmware tells whether machines have UEFI.
func (b Boot) firmware() bool { return b != BootDirect }

// network is how machines boot over the network; "" if they do not.
func (b Boot) network() qemu.NetworkBoot {
	switch b {
	case BootPXE:
		return qemu.NetworkPXE
	case BootHTTP:
		return qemu.NetworkHTTP
	case BootIPXE:
		return qemu.NetworkIPXE
	}
	return ""
}

// bootFrom completes a machine with what it boots from.
func (c *Cluster) bootFrom(n nodeSpec, m *qemu.Machine) error {
	artifact := func(name string) string { return filepath.Join(c.spec.Artifacts, name) }
	if c.spec.Boot.firmware() {
		code, _, err := m.Platform.FindFirmware(c.spec.SecureBoot)
		if err != nil {
			return err
		}
		m.Firmware = qemu.Firmware{Code: code, Variables: c.nodeFile(n.Name, nodeVariables), Secure: c.spec.SecureBoot != ""}
	}
	if n.HasConfig && c.spec.Boot.network() == "" {
		m.Config = c.nodeFile(n.Name, nodeConfig)
	}
	if c.spec.Boot.firmware() {
		m.NetworkBoot = c.spec.Boot.network()
		if c.spec.Boot == BootISO {
			m.Medium = artifact(isoFile)
		}
		return nil
	}
	args, err := kernelArgs(c.spec)
	if err != nil {
		return err
	}
	m.Kernel, m.Initrd, m.KernelArgs = artifact(kernelFile), artifact(initrdFile), args
	m.RootImage = artifact(rootFile)
	return nil
}

// makeNodeDisk makes a node's disk as it is before the first boot.
func (c *Cluster) makeNodeDisk(n nodeSpec) error {
	disk := c.nodeFile(n.Name, nodeDisk)
	if err := createDisk(disk, n.DiskMiB); err != nil {
		return err
	}
	if c.spec.Boot != BootDisk {
		return nil
	}
	return copySparse(disk, filepath.Join(c.spec.Artifacts, diskFile))
}

// makeNodeVariables makes what a node's firmware keeps.
func (c *Cluster) makeNodeVariables(n nodeSpec) error {
	if !c.spec.Boot.firmware() {
		return nil
	}
	platform, err := qemu.PlatformFor(c.spec.Arch)
	if err != nil {
		return err
	}
	_, variables, err := platform.FindFirmware(c.spec.SecureBoot)
	if err != nil {
		return err
	}
	content, err := os.ReadFile(variables)
	if err != nil {
		return err
	}
	return writeFile(c.nodeFile(n.Name, nodeVariables), content)
}

// copySparse copies a file to the beginning of another, but for its holes.
func copySparse(to, from string) (err error) {
	source, err := os.Open(from)
	if err != nil {
		return err
	}
	defer source.Close()
	target, err := os.OpenFile(to, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, target.Close()) }()
	for at := int64(0); ; {
		start, err := unix.Seek(int(source.Fd()), at, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			return nil // holes only
		}
		if err != nil {
			return fmt.Errorf("find the data in %s: %w", from, err)
		}
		end, err := unix.Seek(int(source.Fd()), start, unix.SEEK_HOLE)
		if err != nil {
			return fmt.Errorf("find the data in %s: %w", from, err)
		}
		if _, err := io.Copy(io.NewOffsetWriter(target, start), io.NewSectionReader(source, start, end-start)); err != nil {
			return fmt.Errorf("copy %s to %s: %w", from, to, err)
		}
		at = end
	}
}
