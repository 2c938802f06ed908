package qemu

import (
	"os"

	"golang.org/x/sys/unix"
)

// probeGuest is a tiny guest that sets the FPU up, as all systems do, and then
// makes QEMU end in a certain way. A guest that gets that far proves that guests
// run; that /dev/kvm is there proves nothing.
type probeGuest struct {
	// image is the guest, exit what QEMU exits with once it ran.
	image []byte
	exit  int
	// args are the machine, which finds the image in inheritedImage.
	args []string
}

// inheritedImage is how QEMU opens the first file that it inherits.
const inheritedImage = "/proc/self/fd/3"

// probeAMD64 is a boot sector that tells isa-debug-exit that it ran: QEMU exits
// with value<<1|1 when value is written to its port (hw/misc/debugexit.c). It is
// booted by the machine's firmware, which takes the CPU through protected mode
// on the way: hosts are known that run 16-bit code under KVM and hang on the rest.
// Others get through that now and then, by emulating one instruction after the
// other, and stop at the first one that sets the FPU up.
var probeAMD64 = probeGuest{
	image: bootSector([]byte{
		0x9b, 0xdb, 0xe3, // finit: fwait, fninit
		0xb0, 0x10, // mov al, 0x10
		0xe6, 0xf4, // out 0xf4, al
		0xf4,       // hlt
		0xeb, 0xfd, // jmp to hlt
	}),
	exit: 0x10<<1 | 1,
	args: []string{
		"-device", "isa-debug-exit,iobase=0xf4,iosize=1",
		"-drive", "if=none,id=probe,format=raw,readonly=on,file=" + inheritedImage,
		"-device", "virtio-blk-pci,drive=probe",
	},
}

// bootSector is a disk that begins with the program. SeaBIOS does not boot from
// disks that are much smaller.
func bootSector(program []byte) []byte {
	disk := make([]byte, 1<<20)
	copy(disk, program)
	disk[510], disk[511] = 0x55, 0xaa // the mark of a boot sector
	return disk
}

// probeARM64 is a kernel that asks the machine to switch itself off, by PSCI's
// SYSTEM_OFF (Arm DEN 0022): QEMU then exits with 0, emulated or not.
var probeARM64 = probeGuest{
	image: []byte{
		0x00, 0x06, 0xa0, 0xd2, // mov x0, #0x300000
		0x40, 0x10, 0x18, 0xd5, // msr cpacr_el1, x0
		0xdf, 0x3f, 0x03, 0xd5, // isb
		0xe0, 0x03, 0x67, 0x9e, // fmov d0, xzr
		0x00, 0x01, 0x80, 0xd2, // mov x0, #0x8
		0x00, 0x80, 0xb0, 0xf2, // movk x0, #0x8400, lsl #16
		0x02, 0x00, 0x00, 0xd4, // hvc #0
		0x00, 0x00, 0x00, 0x14, // b .
	},
	args: []string{"-kernel", inheritedImage},
}

// open puts the guest into memory: nothing is left of it however this program
// ends.
func (g probeGuest) open() (*os.File, error) {
	fd, err := unix.MemfdCreate("keelson-probe", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, err
	}
	image := os.NewFile(uintptr(fd), "probe.img")
	if _, err := image.Write(g.image); err != nil {
		image.Close()
		return nil, err
	}
	return image, nil
}

func (p Platform) probeArgs(accel Accel, sandboxed bool) []string {
	args := []string{
		"-nodefaults", "-no-user-config", "-display", "none",
		"-machine", p.machine, "-m", "64M",
	}
	args = append(args, p.probe.args...)
	args = append(args, p.accelArgs(accel, 1)...)
	if sandboxed {
		args = append(args, "-sandbox", sandbox)
	}
	return args
}
