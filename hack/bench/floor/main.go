// Command floor is the init of the benchmark's bare floor: the image's kernel,
// its etcd and its kube-apiserver, and nothing else. What a node needs beyond
// these times is Keelson's own. It prints "FLOOR NAME SECONDS" lines, where
// the seconds are since the kernel started, and powers off.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path"
	"strings"
	"time"

	"github.com/keelson-os/keelson/machined/host"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const (
	root = "/sysroot"
	// deadline bounds the whole run; the machine powers off then.
	deadline = 15 * time.Minute
)

func main() {
	machine := host.Linux{}
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	if err := run(ctx, machine); err != nil {
		fmt.Println("FLOOR-ERROR", err)
	}
	machine.Sync()
	fmt.Println(machine.Reboot(host.PowerOff))
}

func run(ctx context.Context, machine host.OS) error {
	milestone(machine, "init")
	if err := mountAll(ctx, machine); err != nil {
		return err
	}
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		return err
	}
	if err := unix.Chroot(root); err != nil {
		return err
	}
	if err := loadModules(ctx, machine, "crc32c_generic", "ext4"); err != nil {
		fmt.Println(err)
	}
	if err := machine.Mount("/dev/vda", "/var", "ext4", 0, ""); err != nil {
		return fmt.Errorf("mount /var: %w", err)
	}
	client, err := makeKeys("/run/keys")
	if err != nil {
		return err
	}
	if err := os.WriteFile("/run/bootstrap", nil, 0o600); err != nil {
		return err
	}
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	for _, program := range [][]string{etcdCommand("/run/keys"), apiServerCommand("/run/keys")} {
		cmd := exec.CommandContext(ctx, program[0], program[1:]...)
		log, err := os.Create("/var/" + path.Base(program[0]) + ".log")
		if err != nil {
			return err
		}
		cmd.Stdout, cmd.Stderr = log, log
		if err := cmd.Start(); err != nil {
			return err
		}
		go func() { stop(fmt.Errorf("%s ended: %w", program[0], cmd.Wait())) }()
	}
	for _, wait := range []struct{ name, url string }{
		{"etcd", "https://127.0.0.1:2379/health"},
		{"kube-apiserver", "https://127.0.0.1:6443/readyz"},
	} {
		if err := client.waitFor(ctx, wait.url); err != nil {
			return err
		}
		milestone(machine, wait.name)
	}
	return nil
}

func milestone(machine host.OS, name string) {
	fmt.Printf("FLOOR %.2f %s\n", machine.SinceBoot().Seconds(), name)
}

// mountAll loads stage 1's modules and mounts the root image, without verity,
// and what a process expects.
func mountAll(ctx context.Context, machine host.OS) error {
	for _, m := range []struct{ source, target, fstype string }{
		{"devtmpfs", "/dev", "devtmpfs"}, {"proc", "/proc", "proc"}, {"sysfs", "/sys", "sysfs"},
	} {
		if err := errors.Join(machine.MkdirAll(m.target, 0o755), machine.Mount(m.source, m.target, m.fstype, 0, "")); err != nil {
			return err
		}
	}
	list, err := os.ReadFile("/etc/modules-load")
	if err != nil {
		return err
	}
	if err := loadModules(ctx, machine, strings.Fields(string(list))...); err != nil {
		fmt.Println(err)
	}
	if err := machine.MkdirAll(root, 0o755); err != nil {
		return err
	}
	for _, m := range []struct {
		source, target, fstype string
		flags                  uintptr
	}{
		{"/dev/vdb", root, "squashfs", unix.MS_RDONLY},
		{"tmpfs", root + "/run", "tmpfs", 0},
		{"tmpfs", root + "/tmp", "tmpfs", 0},
		{"/dev", root + "/dev", "", unix.MS_BIND},
		{"/proc", root + "/proc", "", unix.MS_BIND},
		{"/sys", root + "/sys", "", unix.MS_BIND},
	} {
		if err := machine.Mount(m.source, m.target, m.fstype, m.flags, ""); err != nil {
			return fmt.Errorf("mount %s: %w", m.target, err)
		}
	}
	return nil
}

// loadModules loads modules of the present root and what they need.
func loadModules(ctx context.Context, machine host.OS, names ...string) error {
	release, err := host.KernelRelease()
	if err != nil {
		return err
	}
	modules, err := host.ReadModules(machine.Root(), path.Join("lib/modules", release))
	if err != nil {
		return err
	}
	steps, err := modules.Plan(names...)
	return errors.Join(err, host.LoadModules(ctx, machine, steps))
}
