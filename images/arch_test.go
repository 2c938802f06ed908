package main

import (
	"debug/elf"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/keelson-os/keelson/pkg/osdisk"
)

func TestEveryArchitectureIsDescribed(t *testing.T) {
	for _, a := range architectures {
		for what, value := range map[string]string{
			"triplet": a.triplet, "loader": a.loader, "serial port": a.serial, "EFI name": osdisk.EFIName(a.name),
		} {
			if value == "" {
				t.Errorf("%s has no %s", a.name, what)
			}
		}
		if found, err := architectureNamed(a.name); err != nil || found.triplet != a.triplet {
			t.Errorf("architectureNamed(%s) = %s, %v", a.name, found.name, err)
		}
		for _, module := range slices.Concat(a.bootModules, a.imageModules) {
			if slices.Contains(imageModules, module) {
				t.Errorf("%s is in the table of %s and in that of all", module, a.name)
			}
		}
	}
	if _, err := architectureNamed("s390x"); err == nil || !strings.Contains(err.Error(), "amd64 and arm64") {
		t.Errorf("error %v", err)
	}
}

func TestNamesOfAnArchitecture(t *testing.T) {
	for got, want := range map[string]string{
		amd64.kernelMetapackage(): "linux-image-6.12-amd64",
		amd64.efiStub():           "usr/lib/systemd/boot/efi/linuxx64.efi.stub",
		amd64.efiLoader():         "usr/lib/systemd/boot/efi/systemd-bootx64.efi",
		arm64.kernelMetapackage(): "linux-image-6.12-arm64",
		arm64.efiStub():           "usr/lib/systemd/boot/efi/linuxaa64.efi.stub",
		arm64.efiLoader():         "usr/lib/systemd/boot/efi/systemd-bootaa64.efi",
	} {
		if got != want {
			t.Errorf("%s, expected %s", got, want)
		}
	}
}

func TestProgramsFindTheirLoader(t *testing.T) {
	for _, a := range architectures {
		tree := newTree()
		addSkeleton(tree)
		a.addLibraries(tree, map[string]string{filepath.Base(a.loader): "/unpacked/loader"})
		a.linkLoader(tree)
		if tree.errs != nil {
			t.Fatal(tree.errs)
		}
		// /lib and /lib64 are links to the same below /usr.
		link := "usr" + a.loader
		target := filepath.Join(filepath.Dir(link), tree.nodes[link].link)
		if tree.nodes[target].file != "/unpacked/loader" {
			t.Errorf("%s: %s leads to %s, which is not there", a.name, a.loader, target)
		}
	}
}

// machines are ELF's names of architectures.
var machines = map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64}

func TestEveryProgramIsForTheArchitecture(t *testing.T) {
	root, want := unpackRoot(t), machines[artefactsForTest(t).arch.name]
	programs := 0
	err := filepath.WalkDir(root, func(path string, entry os.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		f, err := elf.Open(path)
		if err != nil {
			return nil // none
		}
		defer f.Close()
		if programs++; f.Machine != want {
			t.Errorf("%s is for %s, not for %s", path, f.Machine, want)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if programs < 100 { // kernel modules too
		t.Errorf("only %d programs", programs)
	}
}
