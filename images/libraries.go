package main

import (
	"debug/elf"
	"fmt"
	"os"
	"path/filepath"
	"slices"
)

// libraryFolders are where Debian's packages have shared libraries.
var libraryFolders = []string{"lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu"}

// loaderPath is the program interpreter (ELF's PT_INTERP) of every
// dynamically linked amd64 program.
const loaderPath = "/lib64/ld-linux-x86-64.so.2"

// libraries finds the shared libraries that programs need, and those that these
// need in turn, in the unpacked packages. It returns the file by its soname.
func libraries(programs, packageDirs []string) (map[string]string, error) {
	found := map[string]string{}
	for queue := slices.Clone(programs); len(queue) > 0; queue = queue[1:] {
		needed, err := neededLibraries(queue[0])
		if err != nil {
			return nil, err
		}
		for _, soname := range needed {
			if found[soname] != "" {
				continue
			}
			file := findLibrary(soname, packageDirs)
			if file == "" {
				return nil, fmt.Errorf("%s needs %s, which no package has: add the package to debianPackages", queue[0], soname)
			}
			found[soname] = file
			queue = append(queue, file)
		}
	}
	return found, nil
}

func neededLibraries(file string) ([]string, error) {
	f, err := elf.Open(file)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", file, err)
	}
	defer f.Close()
	needed, err := f.ImportedLibraries()
	if err != nil {
		return nil, fmt.Errorf("read what %s needs: %w", file, err)
	}
	return needed, nil
}

func findLibrary(soname string, packageDirs []string) string {
	for _, dir := range packageDirs {
		for _, folder := range libraryFolders {
			file := filepath.Join(dir, folder, soname)
			if _, err := os.Stat(file); err == nil {
				return file
			}
		}
	}
	return ""
}
