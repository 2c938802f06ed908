package main

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
)

// debianPackages are the packages that the image takes files from, besides the
// kernel's.
var debianPackages = []string{
	// Programs: kube-proxy and the CNI plugins run nft, the kubelet mount and
	// umount, machined mke2fs and e2fsck.
	"nftables", "mount", "e2fsprogs",
	// Their shared libraries.
	"libc6", "libnftables1", "libnftnl11", "libmnl0", "libxtables12", "libjansson4", "libgmp10",
	"libedit2", "libbsd0", "libmd0", "libtinfo6",
	"libmount1", "libblkid1", "libselinux1", "libpcre2-8-0",
	"libext2fs2", "libcom-err2", "libuuid1",
	// The names of IP protocols, see debianFiles.
	"netbase",
	// The certificate authorities that a public registry's certificate is from.
	"ca-certificates",
	// The boot loader and the stub of the unified kernel image.
	bootPackage,
}

// debPackage is one Debian package as apt offers it.
type debPackage struct {
	name    string
	version string
	sha256  string // of the .deb
	file    string // the downloaded .deb
	dir     string // where it is unpacked
}

func (b *build) makePackages(ctx context.Context) error {
	kernel, err := b.kernelPackage(ctx)
	if err != nil {
		return err
	}
	b.debian, err = b.fetchPackages(ctx, "packages", append([]string{kernel}, debianPackages...))
	return err
}

// fetchPackages downloads packages that are not there yet and unpacks each to
// build/FOLDER/NAME. It returns them by name.
func (b *build) fetchPackages(ctx context.Context, folder string, names []string) (map[string]debPackage, error) {
	packages, err := b.downloadPackages(ctx, names)
	if err != nil {
		return nil, err
	}
	for name, p := range packages {
		p.dir = b.path("build", folder, name)
		packages[name] = p
	}
	return packages, b.unpack(ctx, folder, packages, names)
}

// downloadPackages downloads packages that are not there yet and returns them by
// name.
func (b *build) downloadPackages(ctx context.Context, names []string) (map[string]debPackage, error) {
	// Not in the folder of the downloads: apt-get says nothing of what is there.
	offers, err := b.apt(ctx, b.path("build"), "apt-get", append([]string{"download", "--print-uris"}, names...)...)
	if err != nil {
		return nil, fmt.Errorf("%w\nhack/setup.sh build fetches apt's lists", err)
	}
	packages := map[string]debPackage{}
	var missing []string
	for line := range strings.Lines(offers) {
		p, err := parseOffer(line)
		if err != nil {
			return nil, err
		}
		p.file = filepath.Join(b.debs, p.file)
		packages[p.name] = p
		if sum, err := b.digest(p.file); err != nil || sum != p.sha256 {
			missing = append(missing, p.name+"="+p.version)
			delete(b.digests, p.file)
		}
	}
	for _, name := range names {
		if packages[name].name == "" {
			return nil, fmt.Errorf("apt offers no package %s", name)
		}
	}
	return packages, b.download(ctx, packages, missing)
}

// kernelPackage returns the name of the kernel's package; it holds the
// kernel's version and changes with each security update.
func (b *build) kernelPackage(ctx context.Context) (string, error) {
	depends, err := b.apt(ctx, "", "apt-cache", "depends", "--important", b.arch.kernelMetapackage())
	for line := range strings.Lines(depends) {
		if name, ok := strings.CutPrefix(strings.TrimSpace(line), "Depends: "); ok && strings.HasPrefix(name, "linux-image-6.12.") {
			return name, nil
		}
	}
	return "", fmt.Errorf("apt offers no kernel by %s (%v): enable bookworm-security in apt's sources and %s", b.arch.kernelMetapackage(), err, b.howToRefresh())
}

// parseOffer reads a line of "apt-get download --print-uris":
// 'URI' NAME_VERSION_ARCH.deb SIZE SHA256:HEX.
func parseOffer(line string) (debPackage, error) {
	fields := strings.Fields(line)
	if len(fields) != 4 {
		return debPackage{}, fmt.Errorf("apt-get download --print-uris printed %q, not: 'URI' FILE SIZE SHA256:HEX", line)
	}
	parts := strings.Split(strings.TrimSuffix(fields[1], ".deb"), "_")
	sum, isSHA256 := strings.CutPrefix(fields[3], "SHA256:")
	if len(parts) != 3 || !isSHA256 {
		return debPackage{}, fmt.Errorf("apt-get download --print-uris printed %q: expected NAME_VERSION_ARCH.deb and a SHA-256", line)
	}
	// The colon of an epoch is escaped in file names.
	version, err := url.PathUnescape(parts[1])
	if err != nil {
		return debPackage{}, fmt.Errorf("version in %q: %w", fields[1], err)
	}
	return debPackage{name: parts[0], version: version, sha256: sum, file: fields[1]}, nil
}

// download fetches packages ("NAME=VERSION") and checks that they are what
// apt's signed lists promise.
func (b *build) download(ctx context.Context, packages map[string]debPackage, missing []string) error {
	if len(missing) == 0 {
		return nil
	}
	b.log.say("downloading %d Debian packages", len(missing))
	// Root's downloads are handed to the user _apt, who cannot write to every
	// folder and is not needed for this.
	args := append([]string{"download", "-q", "-o", "APT::Sandbox::User=root"}, missing...)
	stop := b.log.watch(func() string { return "still downloading" })
	_, err := b.apt(ctx, b.debs, "apt-get", args...)
	stop()
	if err != nil {
		return fmt.Errorf("%w\nif apt's lists are old: %s", err, b.howToRefresh())
	}
	for _, p := range packages {
		sum, err := b.digest(p.file)
		if err != nil {
			return err
		}
		if sum != p.sha256 {
			return fmt.Errorf("%s has SHA-256 %s, apt's lists say %s: delete it and build again", p.file, sum, p.sha256)
		}
	}
	return nil
}

func (b *build) unpack(ctx context.Context, folder string, packages map[string]debPackage, names []string) error {
	var sums []string
	for _, name := range names {
		sums = append(sums, packages[name].sha256)
	}
	return b.once("unpacking Debian packages", []string{b.path("build", folder)}, sums, func(partial []string) error {
		for _, name := range names {
			dir := filepath.Join(partial[0], name)
			if err := os.MkdirAll(dir, 0o755); err != nil {
				return err
			}
			if _, err := command(ctx, "", "dpkg-deb", "--extract", packages[name].file, dir); err != nil {
				return err
			}
		}
		return nil
	})
}

// kernel returns the kernel's package and its version ("6.12.57+deb12-amd64").
func (b *build) kernel() (debPackage, string) {
	for name, p := range b.debian {
		if version, ok := strings.CutPrefix(name, "linux-image-"); ok {
			return p, version
		}
	}
	panic("the target packages was not made before")
}

func (b *build) makeKernel(context.Context) error {
	p, version := b.kernel()
	output := []string{b.path("vmlinuz")}
	return b.once("kernel "+version, output, []string{p.sha256}, func(partial []string) error {
		content, err := os.ReadFile(filepath.Join(p.dir, "boot", "vmlinuz-"+version))
		if err != nil {
			return err
		}
		return os.WriteFile(partial[0], content, 0o644)
	})
}
