package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// moduleTree is a folder of kernel modules as the image has them.
type moduleTree struct {
	version string
	dir     string // holds kernel/ and the indexes
}

// moduleIndexes are the files of depmod(8) that the image keeps, in their text
// form. The others are for kmod's own tools.
var moduleIndexes = []string{"modules.dep", "modules.alias", "modules.softdep", "modules.builtin"}

// makeModules unpacks the chosen modules, which Debian compresses one by one:
// the root image compresses better, and the kernel loads them faster. Their
// signatures are over the unpacked module and stay.
func (b *build) makeModules(ctx context.Context) error {
	kernel, version := b.kernel()
	top := b.path("build", "modules")
	below := filepath.Join("lib", "modules", version)
	b.modules = moduleTree{version: version, dir: filepath.Join(top, below)}
	return b.once("kernel modules", []string{top}, append([]string{kernel.sha256}, b.Modules...), func(partial []string) error {
		from, to := filepath.Join(kernel.dir, below), filepath.Join(partial[0], below)
		// Debian's package has no indexes.
		printed, err := command(ctx, "", "depmod", "--show", "--basedir", kernel.dir, version)
		if err != nil {
			return err
		}
		chosen, err := chooseModules(parseDependencies(printed), b.allModules())
		if err != nil {
			return err
		}
		unpack := []string{"--decompress", "--"}
		for _, file := range chosen {
			if err := copyFile(filepath.Join(from, file), filepath.Join(to, file)); err != nil {
				return err
			}
			if strings.HasSuffix(file, ".xz") {
				unpack = append(unpack, file)
			}
		}
		if _, err := command(ctx, to, "xz", unpack...); err != nil {
			return err
		}
		for _, file := range []string{"modules.builtin", "modules.order"} {
			if err := copyFile(filepath.Join(from, file), filepath.Join(to, file)); err != nil {
				return err
			}
		}
		_, err = command(ctx, "", "depmod", "--basedir", partial[0], version)
		return err
	})
}

// bootModules are the modules of the initramfs.
func (b *build) bootModules() []string { return slices.Concat(bootModules, b.arch.bootModules) }

// allModules are the image's modules, and the profile's.
func (b *build) allModules() []string {
	return slices.Concat(imageModules, b.arch.bootModules, b.arch.imageModules, b.Modules)
}

// parseDependencies finds modules.dep in what "depmod --show" prints: lines
// like "kernel/fs/ext4/ext4.ko.xz: kernel/lib/crc16.ko.xz". It returns, for
// each module's file, all the files it needs.
func parseDependencies(printed string) map[string][]string {
	dependencies := map[string][]string{}
	for line := range strings.Lines(printed) {
		file, needs, ok := strings.Cut(line, ":")
		if ok && strings.HasPrefix(file, "kernel/") {
			dependencies[file] = strings.Fields(needs)
		}
	}
	return dependencies
}

// chooseModules returns the files of the wanted modules and of those they
// need. A wanted module is a name, or a pattern of path.Match over the path
// below kernel/ without suffix. What matches nothing is an error: the kernel
// has changed, and so must the table.
func chooseModules(dependencies map[string][]string, wanted []string) ([]string, error) {
	chosen := map[string]bool{}
	var errs []error
	for _, want := range wanted {
		found := false
		for file, needs := range dependencies {
			if !matchesModule(want, file) {
				continue
			}
			found, chosen[file] = true, true
			for _, need := range needs {
				chosen[need] = true
			}
		}
		if !found {
			errs = append(errs, fmt.Errorf("the kernel has no module %s: correct -module, or the tables in modules_table.go and arch.go", want))
		}
	}
	return slices.Sorted(maps.Keys(chosen)), errors.Join(errs...)
}

func matchesModule(want, file string) bool {
	module, _, _ := strings.Cut(strings.TrimPrefix(file, "kernel/"), ".ko")
	if strings.Contains(want, "/") {
		matched, err := path.Match(want, module)
		return err == nil && matched
	}
	return canonicalModule(want) == canonicalModule(path.Base(module))
}

// canonicalModule writes a module's name as the kernel does.
func canonicalModule(name string) string { return strings.ReplaceAll(name, "-", "_") }

// addTo adds the modules in files, paths below the module folder, to a tree,
// and the indexes cut down to them.
func (m moduleTree) addTo(t *tree, files []string) error {
	to := path.Join("usr/lib/modules", m.version)
	names := map[string]bool{}
	for _, file := range files {
		t.file(path.Join(to, file), filepath.Join(m.dir, file), 0o644)
		names[canonicalModule(strings.TrimSuffix(path.Base(file), ".ko"))] = true
	}
	for _, index := range moduleIndexes {
		content, err := os.ReadFile(filepath.Join(m.dir, index))
		if err != nil {
			return err
		}
		t.text(path.Join(to, index), cutIndex(string(content), names))
	}
	return nil
}

// files lists the modules of the tree that are wanted, with what they need.
func (m moduleTree) files(wanted []string) ([]string, error) {
	index, err := os.ReadFile(filepath.Join(m.dir, "modules.dep"))
	if err != nil {
		return nil, err
	}
	return chooseModules(parseDependencies(string(index)), wanted)
}

// cutIndex leaves out the lines of an index that are about other modules than
// these. Lines about built-in modules and comments stay.
func cutIndex(content string, names map[string]bool) string {
	var kept strings.Builder
	for line := range strings.Lines(content) {
		fields := strings.Fields(line)
		module := ""
		switch {
		case len(fields) == 3 && fields[0] == "alias":
			module = fields[2]
		case len(fields) > 1 && fields[0] == "softdep":
			module = fields[1]
		case len(fields) > 0 && strings.HasSuffix(fields[0], ".ko:"):
			module = strings.TrimSuffix(path.Base(fields[0]), ".ko:")
		}
		if module == "" || names[canonicalModule(module)] {
			kept.WriteString(line)
		}
	}
	return kept.String()
}

func copyFile(from, to string) error {
	content, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	return os.WriteFile(to, content, 0o644)
}
