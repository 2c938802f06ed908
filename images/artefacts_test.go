package main

import (
	"bytes"
	"cmp"
	"context"
	"debug/buildinfo"
	"debug/elf"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/cavaliergopher/cpio"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/klauspost/compress/zstd"
)

// built is the build that "make image" makes, brought up to date; KEELSON_ARCH
// names the architecture if it is not this machine's.
var built = sync.OnceValues(func() (*build, error) {
	arch, err := architectureNamed(cmp.Or(os.Getenv("KEELSON_ARCH"), runtime.GOARCH))
	if err != nil {
		return nil, err
	}
	return makeAll(filepath.Join("..", arch.defaultOut()), arch, nil)
})

// makeAll makes all artefacts and the example shop in a folder, with the packages that another
// build has downloaded.
func makeAll(out string, arch architecture, other *build) (*build, error) {
	b, err := newBuild(out, arch, os.Stderr)
	if err != nil {
		return nil, err
	}
	if other != nil {
		b.debs, b.SignKey = other.debs, other.path("keys", "update.key")
	}
	all, err := choose([]string{"all", "shop"})
	if err != nil {
		return nil, err
	}
	return b, b.make(context.Background(), all)
}

func artefactsForTest(t *testing.T) *build {
	t.Helper()
	b, err := built()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestTwoBuildsAreIdentical(t *testing.T) {
	first := artefactsForTest(t)
	second, err := makeAll(t.TempDir(), first.arch, first)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range append([]string{"shop.tar"}, artefacts...) {
		one, err := first.digest(first.path(name))
		if err != nil {
			t.Fatal(err)
		}
		two, err := second.digest(second.path(name))
		if err != nil {
			t.Fatal(err)
		}
		if one != two {
			t.Errorf("%s differs between two builds: SHA-256 %s and %s", name, one, two)
		}
	}
}

// The installation medium, with all of Kubernetes in it, has a size that people can
// rely on.
func TestTheMediumIsSmall(t *testing.T) {
	b := artefactsForTest(t)
	// Debian's arm64 kernels are not compressed.
	limit := map[string]int64{amd64.name: 120 << 20, arm64.name: 145 << 20}[b.arch.name]
	info, err := os.Stat(b.path("keelson.iso"))
	if err != nil {
		t.Fatal(err)
	}
	if info.Size() > limit {
		t.Errorf("keelson.iso has %.1f MiB, more than %d", float64(info.Size())/(1<<20), limit>>20)
	}
}

// unpackRoot unpacks the root image.
func unpackRoot(t *testing.T) string {
	t.Helper()
	b := artefactsForTest(t)
	root := filepath.Join(t.TempDir(), "root")
	if out, err := exec.Command("unsquashfs", "-quiet", "-no-progress", "-dest", root, b.path("rootfs.img")).CombinedOutput(); err != nil {
		t.Fatalf("unsquashfs: %v\n%s", err, out)
	}
	return root
}

// interpreter matches names of programs that run what somebody typed or wrote.
var interpreter = regexp.MustCompile(`^((ba|da|a|z|k|mk|c|tc|fi|nu|r|pw)?sh|busybox|toybox|sash|env|perl|python|ruby|lua|luajit|node|deno|php|[gmn]?awk|sed|tclsh|wish|expect|guile|gdb|vi|vim|ed|emacs|java|make|bpftrace)[0-9.]*$`)

func TestRootImageHasNoShellAndNothingSetuid(t *testing.T) {
	root := unpackRoot(t)
	files := 0
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if !entry.IsDir() && interpreter.MatchString(entry.Name()) {
			t.Errorf("%s looks like a shell or an interpreter", path)
		}
		if !entry.Type().IsRegular() {
			return nil
		}
		files++
		info, err := entry.Info()
		if err != nil {
			return err
		}
		if info.Mode()&(fs.ModeSetuid|fs.ModeSetgid) != 0 || info.Mode()&0o022 != 0 {
			t.Errorf("%s has mode %s", path, info.Mode())
		}
		start := make([]byte, 2)
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		if _, err := f.Read(start); err == nil && string(start) == "#!" {
			t.Errorf("%s is a script", path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if files < 100 {
		t.Errorf("the root image has only %d files", files)
	}
}

func TestInterpretersAreRecognised(t *testing.T) {
	for name, want := range map[string]bool{
		"sh": true, "bash": true, "dash": true, "busybox": true, "python3.11": true, "perl5": true, "mawk": true,
		"nft": false, "mount": false, "containerd-shim-runc-v2": false, "kubelet": false, "init": false,
	} {
		if interpreter.MatchString(name) != want {
			t.Errorf("%s: recognised as an interpreter: %v", name, !want)
		}
	}
}

func TestRootImageIsComplete(t *testing.T) {
	arch := artefactsForTest(t).arch
	root := unpackRoot(t)
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.Type() == fs.ModeSymlink {
			return checkLink(t, root, path)
		}
		if !entry.Type().IsRegular() || !strings.Contains(path, "/bin/") {
			return nil
		}
		f, err := elf.Open(path)
		if err != nil {
			t.Errorf("%s is no program: %v", path, err)
			return nil
		}
		defer f.Close()
		if _, err := arch.libraries([]string{path}, []string{root}); err != nil {
			t.Error(err)
		}
		for _, segment := range f.Progs {
			if segment.Type != elf.PT_INTERP {
				continue
			}
			loader, err := io.ReadAll(segment.Open())
			if err != nil {
				return err
			}
			if got := string(bytes.TrimRight(loader, "\x00")); got != arch.loader {
				t.Errorf("%s wants the loader %s", path, got)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"sbin/init", arch.loader, "usr/libexec/cni/bridge", "sbin/mkfs.ext4", "usr/bin/flanneld", "usr/bin/local-path-provisioner"} {
		if _, err := os.Stat(filepath.Join(root, name)); err != nil {
			t.Error(err)
		}
	}
}

// checkLink reports a link that leads nowhere. Those to what exists at run time
// only cannot be followed here.
func checkLink(t *testing.T, root, path string) error {
	target, err := os.Readlink(path)
	if err != nil {
		return err
	}
	absolute := filepath.IsAbs(target)
	if !absolute {
		target = strings.TrimPrefix(filepath.Join(filepath.Dir(path), target), root)
	}
	for _, atRunTime := range []string{"/run/keelson/", "/proc/", "/var/lib/cni/"} {
		if strings.HasPrefix(target, atRunTime) {
			return nil
		}
	}
	if absolute {
		t.Errorf("%s leads to %s", path, target)
		return nil
	}
	if _, err := os.Stat(path); err != nil {
		t.Error(err)
	}
	return nil
}

func TestRootImageIsVerifiable(t *testing.T) {
	b := artefactsForTest(t)
	hash, err := os.ReadFile(b.path("rootfs.roothash"))
	if err != nil {
		t.Fatal(err)
	}
	image, err := os.ReadFile(b.path("rootfs.img"))
	if err != nil {
		t.Fatal(err)
	}
	used, err := squashfsSize(b.path("rootfs.img"))
	if err != nil {
		t.Fatal(err)
	}
	offset := (used + 4095) / 4096 * 4096
	if !bytes.HasPrefix(image[offset:], []byte("verity\x00\x00")) {
		t.Fatalf("no verity superblock at %d", offset)
	}
	verify := func(content []byte) error {
		file := filepath.Join(t.TempDir(), "rootfs.img")
		if err := os.WriteFile(file, content, 0o600); err != nil {
			t.Fatal(err)
		}
		return exec.Command("veritysetup", "verify", file, file, strings.TrimSpace(string(hash)), fmt.Sprintf("--hash-offset=%d", offset)).Run()
	}
	if err := verify(image); err != nil {
		t.Errorf("the root image does not verify: %v", err)
	}
	image[offset/2] ^= 1
	if err := verify(image); err == nil {
		t.Error("a flipped bit is not noticed")
	}
}

func TestInitramfsHasTheModulesItsIndexNames(t *testing.T) {
	b := artefactsForTest(t)
	f, err := os.Open(b.path("initramfs.cpio.zst"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	content, err := zstd.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	defer content.Close()
	files := map[string]string{}
	for r := cpio.NewReader(content); ; {
		header, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		files[header.Name] = string(text)
	}
	if !strings.HasPrefix(files["init"], elf.ELFMAG) {
		t.Error("/init is no program")
	}
	dir := "usr/lib/modules/" + b.modules.version + "/"
	loadable := map[string]bool{}
	for file, needs := range parseDependencies(files[dir+"modules.dep"]) {
		loadable[canonicalModule(strings.TrimSuffix(filepath.Base(file), ".ko"))] = true
		for _, module := range append(needs, file) {
			if !strings.HasPrefix(files[dir+module], elf.ELFMAG) || !strings.HasSuffix(files[dir+module], "~Module signature appended~\n") {
				t.Errorf("%s is in modules.dep and no signed module", module)
			}
		}
	}
	for _, module := range strings.Fields(files["etc/modules-load"]) {
		if !loadable[module] {
			t.Errorf("stage 1 loads %s, which is not there", module)
		}
	}
}

func TestBillOfMaterialsNamesEverything(t *testing.T) {
	b := artefactsForTest(t)
	text, err := os.ReadFile(b.path("sbom.spdx.json"))
	if err != nil {
		t.Fatal(err)
	}
	var document struct {
		Packages []struct {
			Name        string `json:"name"`
			VersionInfo string `json:"versionInfo"`
			Checksums   []struct {
				ChecksumValue string `json:"checksumValue"`
			} `json:"checksums"`
		} `json:"packages"`
	}
	if err := json.Unmarshal(text, &document); err != nil {
		t.Fatal(err)
	}
	hashed := map[string]bool{}
	for _, p := range document.Packages {
		if len(p.Checksums) == 1 && len(p.Checksums[0].ChecksumValue) == 64 {
			hashed[p.Name+" "+p.VersionInfo] = true
		}
	}
	var want []string
	for _, p := range programs {
		if p.path == "" {
			continue
		}
		info, err := buildinfo.ReadFile(b.program(p))
		if err != nil {
			t.Fatal(err)
		}
		for _, module := range info.Deps {
			if module.Replace != nil {
				module = module.Replace
			}
			want = append(want, module.Path+" "+module.Version)
		}
	}
	kernel, _ := b.kernel()
	for _, name := range append([]string{kernel.name}, debianPackages...) {
		want = append(want, name+" "+b.debian[name].version)
	}
	for _, entry := range want {
		if !hashed[entry] {
			t.Errorf("the bill of materials has no %s with a hash", entry)
		}
	}
	if len(want) < 200 {
		t.Errorf("only %d modules and packages: something is not read", len(want))
	}
}

func TestSampleImagesShareTheirOneLayer(t *testing.T) {
	b := artefactsForTest(t)
	layers := map[v1.Hash]bool{}
	for _, each := range sampleImages {
		tag, err := name.NewTag(each.name)
		if err != nil {
			t.Fatal(err)
		}
		image, err := tarball.ImageFromPath(b.path("sample-web.tar"), &tag)
		if err != nil {
			t.Fatal(err)
		}
		config, err := image.ConfigFile()
		if err != nil {
			t.Fatal(err)
		}
		if config.Architecture != b.arch.name || strings.Join(config.Config.Entrypoint, " ") != "/sample-web" || config.Config.User == "" {
			t.Errorf("%s has the config %+v", each.name, config.Config)
		}
		for _, diffID := range config.RootFS.DiffIDs {
			layers[diffID] = true
		}
	}
	if len(layers) != 1 {
		t.Errorf("the images have %d different layers, expected 1", len(layers))
	}
}
