package provision

import (
	"os"
	"strings"
	"testing"

	"github.com/keelson-os/keelson/pkg/provision/qemu"
)

const helloFromGuest = "hello from the guest\n"

// helloKernel is the smallest thing that QEMU boots as a Linux kernel: it
// says hello on the serial port and halts. Offsets are those of Linux'
// Documentation/arch/x86/boot.rst.
func helloKernel() []byte {
	const (
		setupSectsAt = 0x1f1
		bootFlagAt   = 0x1fe
		entryAt      = 0x200
		magicAt      = 0x202
		versionAt    = 0x206
		loadFlagsAt  = 0x211
		codeAt       = 0x280
	)
	code := []byte{
		0xbe, 0, 0, // mov si, message
		0xba, 0xf8, 0x03, // mov dx, COM1
		0x2e, 0xac, // next: lodsb from the code segment
		0x84, 0xc0, // test al, al
		0x74, 0x03, // jz halt
		0xee,       // out dx, al
		0xeb, 0xf7, // jmp next
		0xf4, 0xeb, 0xfd, // halt: hlt; jmp halt
	}
	code[1] = byte(codeAt - entryAt + len(code)) // the segment begins at the entry
	kernel := make([]byte, 3*512)                // boot sector, set-up sector, "kernel"
	kernel[setupSectsAt] = 1
	copy(kernel[bootFlagAt:], "\x55\xaa")
	copy(kernel[entryAt:], []byte{0xeb, codeAt - magicAt}) // jmp to the code
	copy(kernel[magicAt:], "HdrS")
	copy(kernel[versionAt:], "\x02\x02") // boot protocol 2.02
	kernel[loadFlagsAt] = 1
	copy(kernel[codeAt:], append(code, helloFromGuest...))
	return kernel
}

// A real QEMU with all our arguments, but a guest of a few bytes.
func TestRealMachine(t *testing.T) {
	platform, err := qemu.PlatformFor("amd64") // the guest's
	if err != nil {
		t.Fatal(err)
	}
	if _, err := platform.Find(t.Context()); err != nil {
		t.Skip(err)
	}
	w := newWorld(t)
	w.write(t, kernelFile, helloKernel())
	w.write(t, rootFile, make([]byte, 1<<20))
	c := w.create(t, func(o *Options) {
		o.Nodes = []Node{{Name: "cp-1", CPUs: 1, MemoryMiB: 128, DiskMiB: 512, Config: []byte("kind: Machine\n")}}
	})
	hellos := func() int {
		console, err := os.ReadFile(c.Console("cp-1"))
		if err != nil {
			return 0
		}
		return strings.Count(strings.ReplaceAll(string(console), "\r", ""), helloFromGuest)
	}
	wantState := func(state string, connected bool) {
		t.Helper()
		eventually(t, "the machine is "+state, func() bool {
			node := status(t, c).Nodes[0]
			return node.State == state && node.Connected == connected
		})
	}
	eventually(t, "the guest booted", func() bool { return hellos() == 1 })
	wantState("running", true)

	check(t, c.restartNetwork(t.Context())) // QEMU takes the new one
	wantState("running", true)

	check(t, c.Reset(t.Context(), "cp-1"))
	eventually(t, "the guest booted again", func() bool { return hellos() == 2 })
	check(t, c.Pause(t.Context(), "cp-1"))
	wantState("paused", true)
	check(t, c.Resume(t.Context(), "cp-1"))
	wantState("running", true)

	check(t, c.PowerCut(t.Context(), "cp-1"))
	wantState("off", false)
	check(t, c.Start(t.Context(), "cp-1"))
	eventually(t, "the guest booted a third time", func() bool { return hellos() == 3 })
	wantState("running", true)

	check(t, c.Destroy(t.Context()))
	wantNothingLeft(t, w)
}
