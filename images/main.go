// Command images builds the OS image from this module and from Debian's
// packages, one artefact per file:
//
//	go run ./images [FLAG]... TARGET...
//
// What is up to date is left alone, and the same inputs give the same bytes.
package main

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"strings"
	"syscall"
)

// target is something that can be asked for by name.
type target struct {
	name  string
	help  string
	needs []string
	make  func(*build, context.Context) error
}

// targets are in the order in which they are built: each needs only earlier
// ones.
var targets = []target{
	{"programs", "the Go programs of the image", nil, (*build).makePrograms},
	{"packages", "Debian's packages, downloaded and unpacked", nil, (*build).makePackages},
	{"modules", "the chosen kernel modules, unpacked and indexed", []string{"packages"}, (*build).makeModules},
	{"kernel", "vmlinuz", []string{"packages"}, (*build).makeKernel},
	{"sample", "sample-web.tar, the image of the sample workload", []string{"programs"}, (*build).makeSample},
	{"initramfs", "initramfs.cpio.zst", []string{"programs", "modules"}, (*build).makeInitramfs},
	{"loader", "the boot loader, signed if a key is given", []string{"packages"}, (*build).makeLoader},
	{"rootfs", "rootfs.img and rootfs.roothash", []string{"programs", "packages", "modules", "kernel", "initramfs", "loader"}, (*build).makeRootfs},
	{"uki", "keelson.efi, the unified kernel image", []string{"kernel", "rootfs", "initramfs"}, (*build).makeUKI},
	{"disk", "keelson.raw and keelson.qcow2, an installed disk", []string{"uki"}, (*build).makeDisk},
	{"bundle", "keelson.bundle, which installed nodes are updated from", []string{"uki"}, (*build).makeBundle},
	{"iso", "keelson.iso, the installation medium for CD and USB", []string{"uki"}, (*build).makeISO},
	{"netboot", "keelson-netboot.efi and keelson-netboot.initrd, the same medium for network boot", []string{"iso"}, (*build).makeNetboot},
	{"sbom", "sbom.spdx.json", []string{"rootfs", "initramfs"}, (*build).makeSBOM},
	{"sizes", "sizes.json, what every part weighs", []string{"kernel", "sample", "disk", "bundle", "iso", "netboot", "sbom"}, (*build).makeSizes},
	{"shop", "shop.tar, the images of the example shop", nil, (*build).makeShop},
	{"testimages", "conformance/images.tar, the images of the conformance suite", nil, (*build).makeTestImages},
}

// apart are the targets that are no part of all: the OS needs nothing of them,
// and they download and compile as much again.
var apart = []string{"shop", "testimages"}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "images:", err)
		os.Exit(1)
	}
}

func run() error {
	out := flag.String("out", "", "folder of the artefacts (default: _out, or _out/ARCH for another architecture than this machine's)")
	from := flag.String("from", "", "folder of another build: what does not differ is taken from there, and its signing key")
	archName := flag.String("arch", runtime.GOARCH, "architecture of the image, in Go's terms")
	var chosenProfile profile
	finish := chosenProfile.addFlags(flag.CommandLine)
	flag.Usage = usage
	flag.Parse()
	if flag.NArg() == 0 {
		usage()
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()

	chosen, err := choose(flag.Args())
	if err != nil {
		return err
	}
	if err := finish(); err != nil {
		return err
	}
	arch, err := architectureNamed(*archName)
	if err != nil {
		return err
	}
	b, err := newBuild(cmp.Or(*out, arch.defaultOut()), arch, os.Stdout)
	if err != nil {
		return err
	}
	b.profile = chosenProfile
	if *from != "" {
		if err := b.takeOver(ctx, *from); err != nil {
			return err
		}
	}
	return b.make(ctx, chosen)
}

func usage() {
	fmt.Fprint(os.Stderr, "usage: go run ./images [FLAG]... TARGET...\n\n")
	for _, t := range targets {
		fmt.Fprintf(os.Stderr, "  %-10s %s\n", t.name, t.help)
	}
	fmt.Fprintf(os.Stderr, "  %-10s %s\n\n", "all", "all of these but "+strings.Join(apart, " and "))
	flag.PrintDefaults()
}

// choose returns the targets to make for the names, with what they need, in
// order.
func choose(names []string) ([]target, error) {
	wanted := map[string]bool{}
	var want func(name string) error
	want = func(name string) error {
		if name == "all" {
			for _, t := range targets {
				wanted[t.name] = wanted[t.name] || !slices.Contains(apart, t.name)
			}
			return nil
		}
		i := slices.IndexFunc(targets, func(t target) bool { return t.name == name })
		if i < 0 {
			return fmt.Errorf("there is no target %q; there are %s", name, strings.Join(targetNames(), ", "))
		}
		wanted[name] = true
		for _, need := range targets[i].needs {
			if err := want(need); err != nil {
				return err
			}
		}
		return nil
	}
	for _, name := range names {
		if err := want(name); err != nil {
			return nil, err
		}
	}
	var chosen []target
	for _, t := range targets {
		if wanted[t.name] {
			chosen = append(chosen, t)
		}
	}
	return chosen, nil
}

func targetNames() []string {
	names := make([]string, 0, len(targets)+1)
	for _, t := range targets {
		names = append(names, t.name)
	}
	return append(names, "all")
}
