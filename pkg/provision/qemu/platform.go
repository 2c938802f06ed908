package qemu

import (
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strings"
)

// Platform is everything that differs between machines of one architecture and
// of another.
type Platform struct {
	// Arch is the architecture, in Go's terms.
	Arch string
	// Package is the Debian package that holds QEMU for it.
	Package string
	// Console is the kernel's name of the serial port behind Machine.Console.
	Console string

	program string // QEMU's
	// machine is QEMU's model, and secureMachine the one whose firmware can keep
	// its variables from the rest; "" if there is none.
	machine, secureMachine string
	// cpu is the model for emulation, and kernelArgs make the kernel do without
	// what is slow to emulate.
	cpu        string
	kernelArgs []string
	// firmware is UEFI as Debian has it.
	firmware firmwareFiles
	// cdrom is a drive for media that the firmware can boot from.
	cdrom []string
	probe probeGuest
}

var platforms = map[string]Platform{
	"amd64": {
		Package: "qemu-system-x86", Console: "ttyS0",
		program: "qemu-system-x86_64", machine: "q35", secureMachine: "q35,smm=on", // only in that mode can the variables be written
		// Emulated "fast string" instructions are slow: without them the kernel
		// copies by plain moves, which halves fork and exec. So are those for AES:
		// without them TLS takes ChaCha20, at half the price of a message.
		cpu: "max,-erms,-fsrm,-aes,-pclmulqdq",
		// There is no speculation to defend against, and rep-prefixed copies are slow.
		kernelArgs: []string{"clearcpuid=rep_good", "mitigations=off"},
		firmware: firmwareFiles{
			pkg: "ovmf", code: "/usr/share/OVMF/OVMF_CODE_4M.fd", secureCode: "/usr/share/OVMF/OVMF_CODE_4M.secboot.fd",
			variables: "/usr/share/OVMF/OVMF_VARS_4M.fd",
		},
		cdrom: []string{"-device", "ide-cd,drive=medium,bootindex=2"},
		probe: probeAMD64,
	},
	"arm64": {
		Package: "qemu-system-arm", Console: "ttyAMA0",
		program: "qemu-system-aarch64", machine: "virt,gic-version=max",
		cpu:        "neoverse-n1",
		kernelArgs: []string{"mitigations=off"},
		firmware:   firmwareFiles{pkg: "qemu-efi-aarch64", code: "/usr/share/AAVMF/AAVMF_CODE.fd", variables: "/usr/share/AAVMF/AAVMF_VARS.fd"},
		cdrom:      []string{"-device", "virtio-scsi-pci,id=scsi", "-device", "scsi-cd,drive=medium,bootindex=2"},
		probe:      probeARM64,
	},
}

// PlatformFor returns the platform of an architecture, which is in Go's terms.
func PlatformFor(arch string) (Platform, error) {
	p, ok := platforms[arch]
	if !ok {
		return Platform{}, fmt.Errorf("unknown architecture %q: use %s", arch, strings.Join(slices.Sorted(maps.Keys(platforms)), " or "))
	}
	p.Arch = arch
	return p, nil
}

// KernelArgs are what the guest's kernel should be told.
func (p Platform) KernelArgs(accel Accel) []string {
	if accel == KVM {
		return nil
	}
	return p.kernelArgs
}

// accelArgs choose the accelerator for a machine of so many CPUs.
func (p Platform) accelArgs(accel Accel, cpus int) []string {
	if accel == KVM {
		return []string{"-accel", "kvm", "-cpu", "host"}
	}
	// One CPU needs no thread beside QEMU's own loop: idle machines, of which a
	// host has several at once, then take half the time.
	thread := "multi"
	if cpus == 1 {
		thread = "single"
	}
	return []string{"-accel", "tcg,thread=" + thread, "-cpu", p.cpu}
}

// foreign says why KVM cannot run the platform's machines on this host; "" if it
// may.
func (p Platform) foreign() string {
	if p.Arch == runtime.GOARCH {
		return ""
	}
	return fmt.Sprintf("the machines are %s, and this host is %s", p.Arch, runtime.GOARCH)
}
