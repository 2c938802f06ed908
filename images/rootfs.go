package main

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/keelson-os/keelson/pkg/version"
)

// debianFile is a file of the image that a Debian package has.
type debianFile struct {
	pkg, file string
	path      string
	mode      fs.FileMode
}

// debianFiles are the files of Debian's that the image names one by one;
// shared libraries follow from them. Modes are given here and not taken over:
// Debian's mount and umount are setuid root.
var debianFiles = []debianFile{
	{"nftables", "usr/sbin/nft", "usr/bin/nft", 0o755},
	{"mount", "bin/mount", "usr/bin/mount", 0o755},
	{"mount", "bin/umount", "usr/bin/umount", 0o755},
	{"e2fsprogs", "sbin/mke2fs", "usr/bin/mke2fs", 0o755},
	{"e2fsprogs", "sbin/e2fsck", "usr/bin/e2fsck", 0o755},
	{"e2fsprogs", "etc/mke2fs.conf", "etc/mke2fs.conf", 0o644},
	// Without it nft lists protocol 6, not tcp; a kube-proxy that starts again
	// would not know its own rules by that, and delete them.
	{"netbase", "etc/protocols", "etc/protocols", 0o644},
}

// pauseImage is the name of the pods' first container's image.
const pauseImage = "keelson.local/pause:" + version.Version

// makeRootfs makes the root image: the root file system, whose packing takes most
// of a build, and behind it the hash tree, which is another one for each kernel
// command line.
func (b *build) makeRootfs(ctx context.Context) error {
	packed := b.path("build", "rootfs.squashfs")
	if err := b.packRootfs(ctx, packed); err != nil {
		return err
	}
	sum, err := b.digest(packed)
	if err != nil {
		return err
	}
	salt, err := b.veritySalt()
	if err != nil {
		return err
	}
	outputs := []string{b.path("rootfs.img"), b.path("rootfs.roothash")}
	return b.once("root image", outputs, []string{sum, salt}, func(partial []string) error {
		if err := copyFile(packed, partial[0]); err != nil {
			return err
		}
		hash, err := addVerity(ctx, partial[0], salt)
		if err != nil {
			return err
		}
		return os.WriteFile(partial[1], []byte(hash+"\n"), 0o644)
	})
}

func (b *build) packRootfs(ctx context.Context, output string) error {
	inputs, err := b.rootfsInputs()
	if err != nil {
		return err
	}
	return b.once("root file system", []string{output}, inputs, func(partial []string) error {
		pause := b.path("build", "pause.tar")
		if err := b.writeImage(pause, pauseImage, programNamed("pause"), "/pause", "65535:65535"); err != nil {
			return err
		}
		root, err := b.rootTree(pause)
		if err != nil {
			return err
		}
		return b.writeSquashfs(ctx, root, partial[0])
	})
}

// rootfsInputs are the digests of everything in the root file system.
func (b *build) rootfsInputs() ([]string, error) {
	var inputs []string
	for _, p := range programs {
		if p.path == "" && p.name != "pause" {
			continue
		}
		sum, err := b.digest(b.program(p))
		if err != nil {
			return nil, err
		}
		inputs = append(inputs, p.name, sum)
	}
	for _, p := range b.debian {
		inputs = append(inputs, p.name+" "+p.sha256)
	}
	slices.Sort(inputs)
	key, err := b.updateKey()
	if err != nil {
		return nil, err
	}
	added, err := b.profileInputs()
	if err != nil {
		return nil, err
	}
	loader, err := b.digest(b.loader())
	if err != nil {
		return nil, err
	}
	inputs = append(inputs, loader)
	return slices.Concat(inputs, added, []string{b.imageName(), string(key)}), nil
}

// veritySalt stands for all that is in an image beside the root file system: two
// images that differ in the kernel's command line alone have two root hashes, by
// which a node tells which of them it runs.
func (b *build) veritySalt() (string, error) {
	var inputs []string
	for _, file := range []string{b.path("vmlinuz"), b.path("initramfs.cpio.zst")} {
		sum, err := b.digest(file)
		if err != nil {
			return "", err
		}
		inputs = append(inputs, sum)
	}
	return digestOf(slices.Concat(inputs, b.consoles(), b.KernelArgs)...), nil
}

// rootTree is the root file system.
func (b *build) rootTree(pause string) (*tree, error) {
	t := newTree()
	addSkeleton(t)
	b.addEtc(t)
	if err := b.addUpdateKey(t); err != nil {
		return nil, err
	}
	for _, p := range programs {
		if p.path == "" {
			continue
		}
		t.file(p.path, b.program(p), 0o755)
		for _, name := range p.links {
			t.link(filepath.Join(filepath.Dir(p.path), name), filepath.Base(p.path))
		}
	}
	t.file("usr/share/keelson/pause.tar", pause, 0o644)
	t.file("usr/share/keelson/"+b.arch.loaderFile(), b.loader(), 0o644) // for installations
	if err := b.addDebian(t); err != nil {
		return nil, err
	}
	if err := b.addProfile(t); err != nil {
		return nil, err
	}
	modules, err := b.modules.files(b.allModules())
	if err != nil {
		return nil, err
	}
	return t, b.modules.addTo(t, modules)
}

// addSkeleton adds the merged /usr, and the folders that something is mounted
// on: nobody can make one later.
func addSkeleton(t *tree) {
	for name, target := range map[string]string{
		"bin": "usr/bin", "sbin": "usr/bin", "lib": "usr/lib", "lib64": "usr/lib64", "usr/sbin": "bin",
	} {
		t.link(name, target)
	}
	for _, name := range []string{"dev", "proc", "sys", "run", "var", "system/state"} {
		t.dir(name, 0o755)
	}
	t.dir("root", 0o700)
	t.dir("tmp", fs.ModeSticky|0o777)
	// Where add-ons bring a pod network of their own: its configuration until the
	// next boot, its plugins on the disk. The links hold for a container, too,
	// that sees the node's root below its own.
	t.link("etc/cni/net.d", "../../run/keelson/cni")
	t.link("opt/cni/bin", "../../var/lib/cni/bin")
}

// addDebian adds Debian's programs, their libraries and the certificate
// authorities.
func (b *build) addDebian(t *tree) error {
	var binaries []string
	for _, f := range debianFiles {
		file := filepath.Join(b.debian[f.pkg].dir, f.file)
		t.file(f.path, file, f.mode)
		if f.mode&0o100 != 0 {
			binaries = append(binaries, file)
		}
	}
	t.link("usr/bin/mkfs.ext4", "mke2fs")
	t.link("usr/bin/fsck.ext4", "e2fsck")

	var dirs []string
	for _, name := range debianPackages {
		dirs = append(dirs, b.debian[name].dir)
	}
	found, err := b.arch.libraries(binaries, dirs)
	if err != nil {
		return err
	}
	b.arch.addLibraries(t, found)
	b.arch.linkLoader(t)

	authorities, err := b.certificateAuthorities()
	t.text("etc/ssl/certs/ca-certificates.crt", authorities)
	return err
}

// certificateAuthorities joins the certificates of the package ca-certificates,
// as its own set-up script does on a Debian system.
func (b *build) certificateAuthorities() (string, error) {
	// Glob sorts.
	files, err := filepath.Glob(filepath.Join(b.debian["ca-certificates"].dir, "usr/share/ca-certificates/mozilla/*.crt"))
	if err != nil {
		return "", err
	}
	if len(files) == 0 {
		return "", fmt.Errorf("the package ca-certificates has no certificates where they used to be")
	}
	var joined strings.Builder
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			return "", err
		}
		joined.Write(content)
	}
	return joined.String(), nil
}
