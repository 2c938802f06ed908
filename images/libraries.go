package main

import (
	"debug/elf"
	"fmt"
	"os"
	"path/filepath"
	"slices"
)

// libraries finds the shared libraries that programs need, and those that these
// need in turn, in the unpacked packages. It returns the file by its soname.
func (a architecture) libraries(programs, packageDirs []string) (map[string]string, error) {
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
			file := a.findLibrary(soname, packageDirs)
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

func (a architecture) findLibrary(soname string, packageDirs []string) string {
	for _, dir := range packageDirs {
		for _, folder := range a.libraryFolders() {
			file := filepath.Join(dir, folder, soname)
			if _, err := os.Stat(file); err == nil {
				return file
			}
		}
	}
	return ""
}
