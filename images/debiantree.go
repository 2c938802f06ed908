package main

import (
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// debianTree collects files of Debian's packages for a container image, with
// the shared libraries they need and the copyright file of each package that
// anything is taken from.
type debianTree struct {
	*tree
	arch     architecture
	what     string
	packages map[string]debPackage
	needy    []string        // programs and libraries whose libraries are still to be added
	used     map[string]bool // packages
	err      error           // the first one
}

func newDebianTree(arch architecture, what string, packages map[string]debPackage) *debianTree {
	d := &debianTree{tree: newTree(), arch: arch, what: what, packages: packages, used: map[string]bool{}}
	for name, target := range map[string]string{
		"bin": "usr/bin", "sbin": "usr/sbin", "lib": "usr/lib", "lib64": "usr/lib64", "var/run": "../run",
	} {
		d.link(name, target)
	}
	d.dir("tmp", fs.ModeSticky|0o777)
	addMountPoints(d.tree)
	return d
}

func (d *debianTree) fail(err error) {
	if d.err == nil {
		d.err = err
	}
}

// unpacked is the path of a package's file.
func (d *debianTree) unpacked(pkg, file string) string {
	d.used[pkg] = true
	return filepath.Join(d.packages[pkg].dir, file)
}

// program adds a program or a library that is loaded by name.
func (d *debianTree) program(pkg, file, path string) {
	from := d.unpacked(pkg, file)
	d.file(path, from, 0o755)
	d.needy = append(d.needy, from)
}

// data adds a file that is not executable.
func (d *debianTree) data(pkg, file, path string) { d.file(path, d.unpacked(pkg, file), 0o644) }

// folder adds the regular files below a package's folder, under the same path.
func (d *debianTree) folder(pkg, dir string) {
	root := d.unpacked(pkg, "")
	err := filepath.WalkDir(filepath.Join(root, dir), func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		name, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		d.file(name, path, 0o644)
		return nil
	})
	if err != nil {
		d.fail(fmt.Errorf("add %s of the package %s: %w", dir, pkg, err))
	}
}

// glob adds the files of a package that match, under the same path: by program
// or by data.
func (d *debianTree) glob(pkg, pattern string, add func(pkg, file, path string)) {
	root := d.unpacked(pkg, "")
	files, err := filepath.Glob(filepath.Join(root, pattern))
	if err == nil && len(files) == 0 {
		err = fmt.Errorf("the package %s has no %s", pkg, pattern)
	}
	if err != nil {
		d.fail(err)
	}
	for _, file := range files {
		name, err := filepath.Rel(root, file)
		if err != nil {
			d.fail(err)
		}
		add(pkg, name, name)
	}
}

// needed are the libraries of everything that was added: the file by soname.
func (d *debianTree) needed() (map[string]string, error) {
	if d.err != nil {
		return nil, d.err
	}
	var dirs []string
	for _, name := range slices.Sorted(maps.Keys(d.packages)) {
		dirs = append(dirs, d.packages[name].dir)
	}
	return d.arch.libraries(d.needy, dirs)
}

// libraries adds libraries, which were found in the packages.
func (d *debianTree) libraries(found map[string]string) {
	for _, file := range found {
		d.used[d.owner(file)] = true
	}
	d.arch.addLibraries(d.tree, found)
}

// loader adds what starts every program that uses libraries.
func (d *debianTree) loader() { d.arch.linkLoader(d.tree) }

// owner is the package of an unpacked file.
func (d *debianTree) owner(file string) string {
	for name, p := range d.packages {
		if strings.HasPrefix(file, p.dir+"/") {
			return name
		}
	}
	panic(file + " is of no package")
}

// copyrights adds the copyright file of each package that is used, unless the
// layer below has it.
func (d *debianTree) copyrights(below *debianTree) error {
	for _, name := range slices.Sorted(maps.Keys(d.used)) {
		if below != nil && below.used[name] {
			continue
		}
		file, err := d.copyright(name)
		if err != nil {
			return err
		}
		d.file(filepath.Join("usr/share/doc", name, "copyright"), file, 0o644)
	}
	return d.err
}

// copyright finds a package's copyright file. Packages from one source may share
// a folder: one has it, the others have a link to it.
func (d *debianTree) copyright(name string) (string, error) {
	docs := filepath.Join(d.packages[name].dir, "usr/share/doc")
	holder := name
	if target, err := os.Readlink(filepath.Join(docs, name)); err == nil {
		holder = filepath.Base(target)
		docs = filepath.Join(d.packages[holder].dir, "usr/share/doc")
	}
	file := filepath.Join(docs, holder, "copyright")
	if _, err := os.Stat(file); err != nil || d.packages[holder].dir == "" {
		return "", fmt.Errorf("the copyright file of the package %s is not in %s: add the package that has it to the list", name, holder)
	}
	return file, nil
}
