package qemu

import (
	"os"

	"golang.org/x/sys/unix"
)

// The probe guest is a boot sector that tells isa-debug-exit that it ran. It
// is booted by the machine's firmware, which takes the CPU through protected mode
// on the way: hosts are known that run 16-bit code under KVM and hang on the rest.
// Others get through that now and then, by emulating one instruction after the
// other, and stop at the first one that sets the FPU up, which all systems do.

// probePort and probeValue: QEMU exits with value<<1|1 when value is written
// to the port of isa-debug-exit (hw/misc/debugexit.c).
const (
	probePort  = 0xf4
	probeValue = 0x10
	probeExit  = probeValue<<1 | 1
)

// probeDiskSize in bytes: SeaBIOS does not boot from disks that are much smaller.
const probeDiskSize = 1 << 20

// probeDisk is a disk whose boot sector runs the probe.
func probeDisk() []byte {
	disk := make([]byte, probeDiskSize)
	copy(disk, []byte{
		0x9b, 0xdb, 0xe3, // finit: fwait, fninit
		0xb0, probeValue, // mov al, probeValue
		0xe6, probePort, // out probePort, al
		0xf4,       // hlt
		0xeb, 0xfd, // jmp to hlt
	})
	disk[510], disk[511] = 0x55, 0xaa // the mark of a boot sector
	return disk
}

// inheritedDisk is how QEMU opens the first file that it inherits.
const inheritedDisk = "/proc/self/fd/3"

// openProbeDisk puts the disk into memory: nothing is left of it however this
// program ends.
func openProbeDisk() (*os.File, error) {
	fd, err := unix.MemfdCreate("keelson-probe", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, err
	}
	disk := os.NewFile(uintptr(fd), "probe.img")
	if _, err := disk.Write(probeDisk()); err != nil {
		disk.Close()
		return nil, err
	}
	return disk, nil
}

func probeArgs(accel Accel, sandboxed bool, disk string) []string {
	args := []string{
		"-nodefaults", "-no-user-config", "-display", "none",
		"-machine", "q35", "-m", "64M",
		"-device", "isa-debug-exit,iobase=0xf4,iosize=1",
		"-drive", "if=none,id=probe,format=raw,readonly=on,file=" + escape(disk),
		"-device", "virtio-blk-pci,drive=probe",
	}
	args = append(args, accel.args(1)...)
	if sandboxed {
		args = append(args, "-sandbox", sandbox)
	}
	return args
}
