package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/cavaliergopher/cpio"
	"github.com/keelson-os/keelson/pkg/provision/qemu"
)

// floorDeadline bounds the floor's run; it powers off by itself when it is done.
const floorDeadline = 20 * time.Minute

// measureFloor boots the image's kernel with the program in ./floor as init.
func measureFloor(ctx context.Context, artifacts string, memory int) ([]Milestone, error) {
	ctx, cancel := context.WithTimeout(ctx, floorDeadline)
	defer cancel()
	dir, err := os.MkdirTemp("", "bench-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	if err := buildFloorInitrd(ctx, dir, artifacts); err != nil {
		return nil, err
	}
	disk := filepath.Join(dir, "disk")
	if err := os.WriteFile(disk, nil, 0o600); err != nil {
		return nil, err
	}
	if err := os.Truncate(disk, 4<<30); err != nil {
		return nil, err
	}
	if out, err := exec.CommandContext(ctx, "/sbin/mke2fs", "-q", "-F", "-t", "ext4", disk).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("format the disk: %w: %s", err, out)
	}
	platform, err := qemu.PlatformFor(runtime.GOARCH)
	if err != nil {
		return nil, err
	}
	binary, err := platform.Find(ctx)
	if err != nil {
		return nil, err
	}
	choice, err := platform.Choose(ctx, binary, qemu.Auto)
	if err != nil {
		return nil, err
	}
	console := filepath.Join(dir, "console")
	machine := qemu.Machine{
		Name: "floor", Platform: platform, Accel: choice.Accel, CPUs: 2, MemoryMiB: memory,
		Kernel: filepath.Join(artifacts, "vmlinuz"), Initrd: filepath.Join(dir, "initrd"),
		KernelArgs: strings.Join(append([]string{"console=" + platform.Console, "quiet", "panic=5"}, platform.KernelArgs(choice.Accel)...), " "),
		DataDisk:   disk, RootImage: filepath.Join(artifacts, "rootfs.img"),
		MAC: "52:54:00:00:00:01", NetSocket: filepath.Join(dir, "net"), QMPSocket: filepath.Join(dir, "qmp"), Console: console,
	}
	if out, err := exec.CommandContext(ctx, binary, append(machine.Args(), "-no-reboot")...).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("run QEMU: %w: %s", err, out)
	}
	text, err := os.ReadFile(console)
	if err != nil {
		return nil, err
	}
	return parseFloor(text)
}

// parseFloor reads the "FLOOR SECONDS NAME" lines of a console.
func parseFloor(console []byte) ([]Milestone, error) {
	var found []Milestone
	for lines := bufio.NewScanner(bytes.NewReader(console)); lines.Scan(); {
		fields := strings.SplitN(strings.TrimSpace(lines.Text()), " ", 3)
		if len(fields) != 3 || fields[0] != "FLOOR" {
			continue
		}
		seconds, err := strconv.ParseFloat(fields[1], 64)
		if err != nil {
			return nil, fmt.Errorf("read the console's line %q: %w", lines.Text(), err)
		}
		found = append(found, Milestone{fields[2], seconds})
	}
	if _, ok := find(found, "kube-apiserver"); !ok {
		return nil, fmt.Errorf("the floor's API server never got ready; its console:\n%s", console)
	}
	return found, nil
}

// buildFloorInitrd appends a second cpio archive to the image's initramfs: the
// kernel unpacks both, and the later /init wins.
func buildFloorInitrd(ctx context.Context, dir, artifacts string) error {
	program := filepath.Join(dir, "floor")
	build := exec.CommandContext(ctx, "go", "build", "-ldflags=-s -w", "-o", program, "./hack/bench/floor")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build the floor's init: %w: %s", err, out)
	}
	text, err := os.ReadFile(program)
	if err != nil {
		return err
	}
	initrd, err := os.Create(filepath.Join(dir, "initrd"))
	if err != nil {
		return err
	}
	defer initrd.Close()
	base, err := os.ReadFile(filepath.Join(artifacts, "initramfs.cpio.zst"))
	if err != nil {
		return err
	}
	// Archives begin at multiples of four bytes (the kernel's initramfs buffer format).
	base = append(base, make([]byte, (4-len(base)%4)%4)...)
	if _, err := initrd.Write(base); err != nil {
		return err
	}
	archive := cpio.NewWriter(initrd)
	if err := archive.WriteHeader(&cpio.Header{Name: "init", Mode: cpio.TypeReg | 0o755, Size: int64(len(text))}); err != nil {
		return err
	}
	if _, err := io.Copy(archive, bytes.NewReader(text)); err != nil {
		return err
	}
	return archive.Close()
}
