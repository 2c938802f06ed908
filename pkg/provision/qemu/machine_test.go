package qemu

import (
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the golden files anew")

// platform is the platform of an architecture that there is one for.
func platform(t *testing.T, arch string) Platform {
	t.Helper()
	p, err := PlatformFor(arch)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func amd64(t *testing.T) Platform {
	t.Helper()
	return platform(t, "amd64")
}

func testMachine(t *testing.T, accel Accel) Machine {
	t.Helper()
	return Machine{
		Name: "keelson-demo-cp-1", Platform: amd64(t), Accel: accel, Sandbox: true, CPUs: 2, MemoryMiB: 2560,
		Kernel: "/out/vmlinuz", Initrd: "/out/initramfs.cpio.zst", KernelArgs: "console=ttyS0 keelson.roothash=abc",
		Config:   "/state/nodes/cp-1/config.yaml",
		DataDisk: "/state/nodes/cp-1/data.img", RootImage: "/out/rootfs.img",
		MAC: "52:54:00:4d:00:0b", NetSocket: "/run/k/0.net", QMPSocket: "/run/k/0.qmp",
		Console: "/state/nodes/cp-1/console.log",
	}
}

func TestArgsGolden(t *testing.T) {
	for _, accel := range []Accel{KVM, TCG} {
		t.Run(string(accel), func(t *testing.T) {
			checkArgs(t, testMachine(t, accel), "args."+string(accel)+".golden")
		})
	}
}

func TestArgsOfARM64Golden(t *testing.T) {
	m := testMachine(t, TCG)
	m.Platform, m.KernelArgs = platform(t, "arm64"), "console=ttyAMA0 keelson.roothash=abc"
	checkArgs(t, m, "args.arm64.golden")

	m.Kernel, m.Initrd, m.KernelArgs, m.RootImage = "", "", "", ""
	m.Firmware = Firmware{Code: "/firmware/code", Variables: "/state/nodes/cp-1/firmware.vars"}
	m.Medium = "/out/keelson.iso"
	checkArgs(t, m, "args.arm64.iso.golden")
}

func checkArgs(t *testing.T, m Machine, golden string) {
	t.Helper()
	got := strings.Join(m.Args(), "\n") + "\n"
	golden = filepath.Join("testdata", golden)
	if *update {
		if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("arguments changed:\n%s\nwant:\n%s\nIf that is meant, run go test -update.", got, want)
	}
}

func TestArgsOfOneEmulatedCPU(t *testing.T) {
	m := testMachine(t, TCG)
	m.CPUs = 1
	if args := m.Args(); !slices.Contains(args, "tcg,thread=single") {
		t.Errorf("arguments %v", args)
	}
}

func TestArgsEscapesCommas(t *testing.T) {
	m := testMachine(t, TCG)
	m.DataDisk = "/state/a,readonly=on/data.img"
	args := strings.Join(m.Args(), "\n")
	if !strings.Contains(args, "file=/state/a,,readonly=on/data.img\n") {
		t.Errorf("the path's comma was not escaped:\n%s", args)
	}
}

func TestArgsWithoutConfigOrSandbox(t *testing.T) {
	m := testMachine(t, TCG)
	m.Config, m.Sandbox = "", false
	for _, flag := range []string{"-fw_cfg", "-sandbox"} {
		if slices.Contains(m.Args(), flag) {
			t.Errorf("%s is there", flag)
		}
	}
}

func TestParseAccel(t *testing.T) {
	for name, want := range map[string]Accel{"": Auto, "auto": Auto, "kvm": KVM, "tcg": TCG, "xen": ""} {
		got, err := ParseAccel(name)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("ParseAccel(%q) = %q, %v; want %q", name, got, err, want)
		}
	}
}

func TestCheckVersion(t *testing.T) {
	tests := map[string]bool{
		"QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18)\nCopyright": true,
		"QEMU emulator version 10.0.0":                                           true,
		"QEMU emulator version 7.1.0":                                            false,
		"QEMU emulator version 5.2.0":                                            false,
		"something else":                                                         false,
	}
	for output, ok := range tests {
		err := amd64(t).checkVersion(output)
		if (err == nil) != ok {
			t.Errorf("%q: error %v, want acceptance %v", output, err, ok)
		}
		if err != nil && !strings.Contains(err.Error(), amd64(t).Package) {
			t.Errorf("%q: %v does not name the package %s", output, err, amd64(t).Package)
		}
	}
}

func TestFindMissing(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	if _, err := amd64(t).Find(t.Context()); err == nil || !strings.Contains(err.Error(), amd64(t).Package) {
		t.Errorf("error %v, want one that names the package %s", err, amd64(t).Package)
	}
}
