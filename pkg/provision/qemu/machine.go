package qemu

import (
	"fmt"
	"strings"
)

// Machine is everything that one QEMU command line depends on. Paths are absolute.
type Machine struct {
	// Name is shown in process lists.
	Name      string
	Platform  Platform
	Accel     Accel
	Sandbox   bool
	CPUs      int
	MemoryMiB int

	// Firmware, if set, boots from DataDisk, or else from Medium or the network;
	// otherwise QEMU starts Kernel with Initrd.
	Firmware   Firmware
	Kernel     string
	Initrd     string
	KernelArgs string
	// Medium is an image in a CD drive; "" for none.
	Medium string
	// NetworkBoot is how Firmware boots over the network; "" if it does not.
	NetworkBoot NetworkBoot
	// Config is a file handed to the guest as fw_cfg ConfigKey; "" for none.
	Config string

	// DataDisk is a raw image, the guest's /dev/vda.
	DataDisk string
	// RootImage is attached read-only, the guest's /dev/vdb; "" for none.
	RootImage string

	MAC string
	// NetSocket is where QEMU listens for the network, QMPSocket for QMP.
	NetSocket string
	QMPSocket string
	// Console is the file that the serial console is appended to.
	Console string
}

// NetworkBoot is how a machine's firmware boots over the network.
type NetworkBoot string

// What firmware can do.
const (
	// NetworkPXE loads a program by TFTP.
	NetworkPXE NetworkBoot = "pxe"
	// NetworkHTTP loads a program by HTTP.
	NetworkHTTP NetworkBoot = "http"
	// NetworkIPXE leaves it to iPXE in the network card's ROM.
	NetworkIPXE NetworkBoot = "ipxe"
)

// args are the network card and what the firmware is told of it.
func (b NetworkBoot) args(card string) []string {
	if b == "" {
		return []string{"-device", card + ",romfile="}
	}
	card += ",bootindex=2"
	if b != NetworkIPXE {
		card += ",romfile="
	}
	// What is not wanted is switched off: the firmware tries it for minutes.
	off := []string{"IPv6Support", "IPv6PXESupport"}
	if b == NetworkHTTP {
		off = append(off, "IPv4PXESupport")
	}
	args := []string{"-device", card}
	for _, key := range off {
		args = append(args, "-fw_cfg", "name=opt/org.tianocore/"+key+",string=n")
	}
	return args
}

// ConfigKey is the fw_cfg file under which a guest finds its machine config.
// QEMU reserves opt/ for users and asks for a reverse domain name (docs/specs/fw_cfg).
const ConfigKey = "opt/org.keelson/config"

// Sandbox options: QEMU gives up what it never needs after start, so that a
// guest that breaks out of it can neither run programs nor gain rights.
const sandbox = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"

// Args is QEMU's command line without the program. A guest's reboot keeps the
// process, a power-off ends it.
func (m Machine) Args() []string {
	machine := m.Platform.machine
	if m.Firmware.Secure {
		machine = m.Platform.secureMachine
	}
	args := []string{
		"-name", escape(m.Name),
		"-nodefaults", "-no-user-config", "-display", "none",
		"-machine", machine,
		"-rtc", "base=utc",
		"-msg", "timestamp=on",
		"-m", fmt.Sprintf("%dM", m.MemoryMiB),
		"-smp", fmt.Sprint(m.CPUs),
	}
	args = append(args, m.Platform.accelArgs(m.Accel, m.CPUs)...)
	if m.Sandbox {
		args = append(args, "-sandbox", sandbox)
	}
	disk := "virtio-blk-pci,drive=data,serial=data"
	if m.Firmware != (Firmware{}) {
		disk += ",bootindex=1"
		args = append(args,
			// A machine that hangs is reset, as servers are.
			"-device", "i6300esb", "-action", "watchdog=reset",
			"-drive", "if=pflash,format=raw,readonly=on,file="+escape(m.Firmware.Code),
			"-drive", "if=pflash,format=raw,file="+escape(m.Firmware.Variables),
		)
		if m.Firmware.Secure {
			args = append(args, "-global", "driver=cfi.pflash01,property=secure,value=on")
		}
	} else {
		args = append(args, "-kernel", m.Kernel, "-initrd", m.Initrd, "-append", m.KernelArgs)
	}
	args = append(args,
		// Writeback keeps the guest's own promises: a flush reaches the host's disk.
		"-drive", "if=none,id=data,format=raw,cache=writeback,discard=unmap,file="+escape(m.DataDisk),
		"-device", disk,
	)
	if m.RootImage != "" {
		args = append(args,
			"-drive", "if=none,id=root,format=raw,readonly=on,file="+escape(m.RootImage),
			"-device", "virtio-blk-pci,drive=root,serial=root",
		)
	}
	args = append(args,
		// QEMU listens: the network may come, go and come back while the guest runs.
		"-netdev", "stream,id=net,server=on,addr.type=unix,addr.path="+escape(m.NetSocket),
	)
	args = append(args, m.NetworkBoot.args("virtio-net-pci,netdev=net,mac="+m.MAC)...)
	args = append(args,
		"-object", "rng-builtin,id=rng", "-device", "virtio-rng-pci,rng=rng",
		"-chardev", "file,id=console,append=on,path="+escape(m.Console), "-serial", "chardev:console",
		"-chardev", "socket,id=qmp,server=on,wait=off,path="+escape(m.QMPSocket), "-mon", "chardev=qmp,mode=control",
	)
	if m.Medium != "" {
		args = append(args, "-drive", "if=none,id=medium,media=cdrom,format=raw,readonly=on,file="+escape(m.Medium))
		args = append(args, m.Platform.cdrom...)
	}
	if m.Config != "" {
		args = append(args, "-fw_cfg", "name="+ConfigKey+",file="+escape(m.Config))
	}
	return args
}

// escape protects a value inside a QEMU option list, where a comma ends it.
func escape(value string) string {
	return strings.ReplaceAll(value, ",", ",,")
}
