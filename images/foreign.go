package main

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
)

// Images for another architecture than this machine's are made with Debian's
// cross compiler, which hack/setup.sh installs, and with packages that apt
// downloads by lists of that architecture. Both are in the folder of the
// artefacts: nothing about this machine changes.

// aptOptions have apt use those lists; nil for this machine's own architecture.
func (b *build) aptOptions() []string {
	if !b.arch.foreign() {
		return nil
	}
	state := b.path("build", "apt")
	return []string{
		"-o", "APT::Architecture=" + b.arch.name, "-o", "APT::Architectures=" + b.arch.name,
		"-o", "Dir::State=" + state, "-o", "Dir::State::Lists=" + filepath.Join(state, "lists"), "-o", "Dir::Cache=" + filepath.Join(state, "cache"),
		"-o", "Dir::State::Status=/dev/null", // what is installed here says nothing of it
		"-o", "Acquire::Languages=none", "-o", "APT::Sandbox::User=root",
	}
}

// howToRefresh says how apt's lists are fetched anew.
func (b *build) howToRefresh() string {
	if b.arch.foreign() {
		return "delete " + b.path("build", "apt")
	}
	return "run apt-get update"
}

// apt runs apt-get or apt-cache for the image's architecture.
func (b *build) apt(ctx context.Context, dir, program string, args ...string) (string, error) {
	if err := b.fetchLists(ctx); err != nil {
		return "", err
	}
	return command(ctx, dir, program, append(b.aptOptions(), args...)...)
}

// fetchLists fetches apt's lists for another architecture unless they are there.
// The machine's own are left to whoever looks after it, and so is their age.
func (b *build) fetchLists(ctx context.Context) error {
	lists := b.path("build", "apt", "lists")
	if !b.arch.foreign() || allExist([]string{filepath.Join(lists, "fetched")}) {
		return nil
	}
	b.log.say("fetching apt's lists for %s; for newer ones later, %s", b.arch.name, b.howToRefresh())
	for _, dir := range []string{filepath.Join(lists, "partial"), b.path("build", "apt", "cache", "archives", "partial")} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	if _, err := command(ctx, "", "apt-get", append(b.aptOptions(), "update", "-q", "--error-on=any")...); err != nil {
		return fmt.Errorf("fetch apt's lists for %s: %w", b.arch.name, err)
	}
	return os.WriteFile(filepath.Join(lists, "fetched"), nil, 0o644)
}

// sysrootPackages are what C programs for another architecture are compiled with.
var sysrootPackages = []string{"libc6-dev", "libseccomp-dev", "linux-libc-dev"}

// makeCompiler unpacks these for the cross compiler and returns the environment
// in which the go command uses both.
func (b *build) makeCompiler(ctx context.Context) ([]string, error) {
	packages, err := b.downloadPackages(ctx, sysrootPackages)
	if err != nil {
		return nil, err
	}
	var inputs []string
	for _, name := range sysrootPackages {
		inputs = append(inputs, packages[name].sha256)
	}
	root, compiler := b.path("build", "sysroot"), b.arch.tool("gcc")
	real, err := exec.LookPath(compiler)
	if err != nil {
		return nil, fmt.Errorf("%s is not installed; hack/setup.sh %s installs it", compiler, b.arch.name)
	}
	err = b.once("C libraries for "+b.arch.name, []string{root}, inputs, func(partial []string) error {
		for _, name := range sysrootPackages {
			if _, err := command(ctx, "", "dpkg-deb", "--extract", packages[name].file, partial[0]); err != nil {
				return err
			}
		}
		// The go command makes the compiler's flags part of the program, where the
		// path of this folder must not be: a script of the compiler's own name
		// adds it.
		script := fmt.Sprintf("#!/bin/sh\nexec %s --sysroot='%s' \"$@\"\n", real, root)
		return writeExecutable(filepath.Join(partial[0], "cross", compiler), script)
	})
	b.sysroot = packages
	return []string{
		"CC=" + compiler,
		"PATH=" + filepath.Join(root, "cross") + ":" + os.Getenv("PATH"),
		"PKG_CONFIG_LIBDIR=" + filepath.Join(root, "usr/lib", b.arch.triplet, "pkgconfig"),
	}, err
}

func writeExecutable(file, text string) error {
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	return os.WriteFile(file, []byte(text), fs.FileMode(0o755))
}

// staticLibrary is a C library that is linked into runc.
type staticLibrary struct {
	pkg, version string // Debian's
	file         string
}

// staticLibraries are those of the building machine, or those that were unpacked
// for the cross compiler.
func (b *build) staticLibraries(ctx context.Context) ([]staticLibrary, error) {
	libraries := []staticLibrary{{pkg: "libc6-dev", file: "libc.a"}, {pkg: "libseccomp-dev", file: "libseccomp.a"}}
	for i := range libraries {
		l := &libraries[i]
		l.file = filepath.Join("/usr/lib", b.arch.triplet, l.file)
		if b.arch.foreign() {
			l.file, l.version = b.path("build", "sysroot", l.file), b.sysroot[l.pkg].version
			continue
		}
		var err error
		if l.version, err = command(ctx, "", "dpkg-query", "--show", "--showformat", "${Version}", l.pkg); err != nil {
			return nil, fmt.Errorf("%w; hack/setup.sh build installs %s", err, l.pkg)
		}
	}
	return libraries, nil
}
