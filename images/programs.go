package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/keelson-os/keelson/pkg/version"
)

// program is one Go program of the image.
type program struct {
	name  string
	pkg   string   // its main package
	path  string   // where the root image has it; "" when it has not
	links []string // names that lead to it, in the same folder
}

// programNamed returns the program of that name.
func programNamed(name string) program {
	return programs[slices.IndexFunc(programs, func(p program) bool { return p.name == name })]
}

// programs is every Go program that ends up in an artefact.
var programs = []program{
	{name: "machined", pkg: "./machined", path: "usr/bin/machined", links: []string{"init"}},
	{name: "initramfs", pkg: "./machined/initramfs"},
	{name: "apid", pkg: "./apid", path: "usr/bin/apid"},
	{name: "etcd", pkg: "./machined/etcd/server", path: "usr/bin/etcd"},
	{name: "balancer", pkg: "./machined/balancer/proxy", path: "usr/bin/balancer"},
	{name: "kube", pkg: "./images/bundle/kube", path: "usr/bin/kube", links: []string{
		"kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy", "flanneld", "metrics-server",
		"local-path-provisioner", "coredns",
	}},
	{name: "containerd", pkg: containerdModule + "/cmd/containerd", path: "usr/bin/containerd"},
	{name: "containerd-shim-runc-v2", pkg: containerdModule + "/cmd/containerd-shim-runc-v2", path: "usr/bin/containerd-shim-runc-v2"},
	{name: "runc", pkg: "github.com/opencontainers/runc", path: "usr/bin/runc"},
	{name: "bridge", pkg: pluginsModule + "/plugins/main/bridge", path: "usr/libexec/cni/bridge"},
	{name: "host-local", pkg: pluginsModule + "/plugins/ipam/host-local", path: "usr/libexec/cni/host-local"},
	{name: "portmap", pkg: pluginsModule + "/plugins/meta/portmap", path: "usr/libexec/cni/portmap"},
	{name: "pause", pkg: "./images/bundle/pause"},
	{name: "sample", pkg: "./hack/sample"},
}

const (
	containerdModule = "github.com/containerd/containerd/v2"
	pluginsModule    = "github.com/containernetworking/plugins"
)

// containerdTags leave out snapshotters and tracing that nothing here uses.
// No other program has packages that know these tags.
const containerdTags = "no_btrfs,no_devmapper,no_zfs,no_rdt,no_tracing"

// runcTags are those of runc's own static build. It is the one program with C
// in it: its first stage has to run before Go's threads start, and it needs
// libseccomp.
const runcTags = "seccomp,netgo,osusergo,urfave_cli_no_docs"

// makePrograms lets the go command decide what is up to date. It can, because
// the programs keep their build ID, which depends on nothing but the inputs.
func (b *build) makePrograms(ctx context.Context) error {
	if err := os.MkdirAll(b.path("build", "programs"), 0o755); err != nil {
		return err
	}
	stamps, err := versionStamps(ctx, b.source)
	if err != nil {
		return err
	}
	var static, withC []program
	for _, p := range programs {
		if p.name == "runc" {
			withC = append(withC, p)
		} else {
			static = append(static, p)
		}
	}
	b.log.say("Go programs (from a cold build cache this takes minutes)")
	if err := b.goBuild(ctx, static, noC, containerdTags, stamps); err != nil {
		return err
	}
	compiler := []string{"CGO_ENABLED=1"}
	if b.arch.foreign() {
		cross, err := b.makeCompiler(ctx)
		if err != nil {
			return err
		}
		compiler = append(compiler, cross...)
	}
	libraries, err := b.staticLibrariesDigest(ctx)
	if err != nil {
		return err
	}
	// The go command does not know what the C linker reads. A variable that
	// nothing has makes it link anew when a library was updated.
	return b.goBuild(ctx, withC, compiler, runcTags, "-extldflags=-static -X static.libraries="+libraries)
}

// noC is the environment of programs without C.
var noC = []string{"CGO_ENABLED=0"}

func (b *build) staticLibrariesDigest(ctx context.Context) (string, error) {
	libraries, err := b.staticLibraries(ctx)
	if err != nil {
		return "", err
	}
	var sums []string
	for _, library := range libraries {
		sum, err := b.digest(library.file)
		if err != nil {
			return "", err
		}
		sums = append(sums, sum)
	}
	return digestOf(sums...), nil
}

// goBuild builds programs at once: they share most packages, and the go
// command reads them once.
func (b *build) goBuild(ctx context.Context, programs []program, env []string, tags, ldflags string) error {
	args := []string{"build", "-v", "-trimpath", "-buildvcs=false", "-tags", tags, "-ldflags", "-s -w " + ldflags, "-o", b.path("build", "programs") + "/"}
	for _, p := range programs {
		args = append(args, p.pkg)
	}
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = b.source
	cmd.Env = slices.Concat(os.Environ(), []string{"GOARCH=" + b.arch.name}, env)
	stderr, err := cmd.StderrPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return commandError(cmd, err, "")
	}

	var compiled atomic.Int64
	stop := b.log.watch(func() string { return fmt.Sprintf("%d packages compiled", compiled.Load()) })
	var complaints strings.Builder
	lines := bufio.NewScanner(stderr)
	for lines.Scan() {
		// With -v a line without blanks is a package that was compiled.
		if line := lines.Text(); strings.ContainsAny(line, " \t") {
			complaints.WriteString(line + "\n")
		} else {
			compiled.Add(1)
		}
	}
	err = cmd.Wait()
	stop()
	if err != nil {
		return commandError(cmd, err, complaints.String())
	}
	return nil
}

// program is the path of a built program. The go command names its outputs
// after the packages.
func (b *build) program(p program) string { return b.path("build", "programs", path.Base(p.pkg)) }

// versionStamps are the linker flags that tell programs their version. The
// go command stamps main modules only, and these ask variables instead.
func versionStamps(ctx context.Context, source string) (string, error) {
	containerd, err := command(ctx, source, "go", "list", "-m", "-f", "{{.Version}}", containerdModule)
	if err != nil {
		return "", err
	}
	number := strings.Split(strings.TrimPrefix(version.Version, "v"), ".")
	var flags []string
	stamp := func(variable, value string) { flags = append(flags, "-X "+variable+"="+value) }
	for _, pkg := range []string{"k8s.io/component-base/version", "k8s.io/client-go/pkg/version"} {
		stamp(pkg+".gitVersion", version.Version)
		stamp(pkg+".gitMajor", number[0])
		stamp(pkg+".gitMinor", number[1])
		stamp(pkg+".gitCommit", "") // unknown: modules carry no commit
		stamp(pkg+".gitTreeState", "clean")
	}
	stamp(containerdModule+"/version.Version", strings.TrimSpace(containerd))
	return strings.Join(flags, " "), nil
}
