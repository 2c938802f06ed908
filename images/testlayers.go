package main

import (
	"context"
	"fmt"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// testPackages are the packages of Debian that the suite's images take files
// from; what these depend on follows.
var testPackages = []string{
	"busybox-static", "bash-static", "bind9-dnsutils", "curl", "iproute2", "libc-bin", "netcat-openbsd", "nginx", "socat", "util-linux",
}

// Where the programs of the lowest layer are in their packages. The shell is
// not busybox's: that one forgets variables of the environment whose names have
// a dash, and specs about ConfigMaps and Secrets look for such.
const (
	busyboxPath = "bin/busybox"
	shellPath   = "bin/bash-static"
)

// withDependencies returns the packages and those that they depend on, as if
// none was installed.
func withDependencies(ctx context.Context, names []string) ([]string, error) {
	args := []string{
		"install", "--print-uris", "--yes", "--no-install-recommends",
		"-o", "Dir::State::status=/dev/null", "-o", "Debug::NoLocking=1",
	}
	plan, err := command(ctx, "", "apt-get", append(args, names...)...)
	if err != nil {
		return nil, fmt.Errorf("%w\nhack/setup.sh build fetches apt's lists", err)
	}
	all := plannedPackages(plan)
	for _, name := range names {
		if !slices.Contains(all, name) {
			return nil, fmt.Errorf("apt's plan to install %s does not hold it; apt-get update fetches new lists", name)
		}
	}
	return all, nil
}

// plannedPackages reads "apt-get install --print-uris": among other lines,
// 'URI' NAME_VERSION_ARCH.deb SIZE [DIGEST].
func plannedPackages(plan string) []string {
	var names []string
	for line := range strings.Lines(plan) {
		if fields := strings.Fields(line); strings.HasPrefix(line, "'") && len(fields) >= 3 {
			name, _, _ := strings.Cut(fields[1], "_")
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// addBusybox adds what all the images but the pause image have: a shell, the
// usual tools, the users that the suite asks for.
func (t *suiteBuild) addBusybox(content *tree) error {
	for name, target := range map[string]string{
		"bin": "usr/bin", "sbin": "usr/bin", "lib": "usr/lib", "lib64": "usr/lib64", "usr/sbin": "bin",
	} {
		content.link(name, target)
	}
	for _, dir := range []string{"dev", "proc", "sys", "run", "home", "usr/lib", "usr/lib64", "var/log", "var/run"} {
		content.dir(dir, 0o755)
	}
	content.dir("root", 0o700)
	content.dir("tmp", fs.ModeSticky|0o777)
	content.dir("var/tmp", fs.ModeSticky|0o777)
	content.text("etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files dns\n")
	// The user of the image is in a group that only the image knows, which a
	// spec about supplemental groups looks at.
	content.text("etc/passwd", `root:x:0:0:root:/root:/bin/sh
daemon:x:1:1:daemon:/usr/sbin:/bin/false
www-data:x:33:33:www-data:/var/www:/bin/false
user-defined-in-image:x:1000:1000::/home:/bin/sh
nobody:x:65534:65534:nobody:/home:/bin/false
`)
	content.text("etc/group", `root:x:0:
daemon:x:1:
www-data:x:33:
user-defined-in-image:x:1000:
group-defined-in-image:x:50000:user-defined-in-image
nogroup:x:65534:
`)
	content.file("usr/bin/busybox", filepath.Join(t.packages["busybox-static"].dir, busyboxPath), 0o755)
	content.file("usr/bin/bash", filepath.Join(t.packages["bash-static"].dir, shellPath), 0o755)
	content.link("usr/bin/sh", "bash")
	for _, name := range t.applets {
		if name != "busybox" && name != "sh" {
			content.link("usr/bin/"+name, "busybox")
		}
	}
	return nil
}

func (t *suiteBuild) addAgnhost(content *tree) error {
	for name, file := range map[string]string{"agnhost": "agnhost", "dnsserver": "coredns"} {
		if err := oneProgram(name, file, 0o755).fill(t, content); err != nil {
			return err
		}
	}
	content.link("agnhost-2", "agnhost")
	content.dir("uploads", 0o755)
	for _, file := range []string{"localhost.crt", "localhost.key"} {
		content.file(file, filepath.Join(t.sources, "agnhost", "porter", file), 0o644)
	}
	return t.addPrograms(content, map[string]string{
		"usr/bin/dig":      "bind9-dnsutils",
		"usr/bin/nslookup": "bind9-dnsutils",
		"usr/bin/getent":   "libc-bin",
		"usr/bin/curl":     "curl",
		"bin/nc.openbsd":   "netcat-openbsd",
		"usr/bin/socat":    "socat",
		"bin/ip":           "iproute2",
		"bin/ss":           "iproute2",
		"usr/bin/ipcs":     "util-linux",
		"usr/bin/ipcmk":    "util-linux",
	})
}

func (t *suiteBuild) addDNSTools(content *tree) error {
	return t.addPrograms(content, map[string]string{
		"usr/bin/dig": "bind9-dnsutils", "usr/bin/nslookup": "bind9-dnsutils", "usr/bin/getent": "libc-bin",
	})
}

func (t *suiteBuild) addIPCTools(content *tree) error {
	return t.addPrograms(content, map[string]string{"usr/bin/ipcs": "util-linux", "usr/bin/ipcmk": "util-linux"})
}

// nginxConfig serves nginx's own page on port 80 and logs as containers do.
const nginxConfig = `user www-data;
pid /run/nginx.pid;
error_log /dev/stderr notice;
events {}
http {
	include /etc/nginx/mime.types;
	access_log /dev/stdout;
	server {
		listen 80;
		root /usr/share/nginx/html;
	}
}
`

func (t *suiteBuild) addNginx(content *tree) error {
	content.text("etc/nginx/nginx.conf", nginxConfig)
	common := t.packages["nginx-common"].dir
	content.file("etc/nginx/mime.types", filepath.Join(common, "etc/nginx/mime.types"), 0o644)
	content.file("usr/share/nginx/html/index.html", filepath.Join(common, "usr/share/nginx/html/index.html"), 0o644)
	for _, dir := range []string{"var/lib/nginx", "var/log/nginx"} {
		content.dir(dir, 0o755)
	}
	return t.addPrograms(content, map[string]string{"usr/sbin/nginx": "nginx"})
}

// addPrograms adds programs of packages, given by their paths in them, and the
// libraries that they need.
func (t *suiteBuild) addPrograms(content *tree, programs map[string]string) error {
	var binaries, dirs []string
	for file, name := range programs {
		binary := filepath.Join(t.packages[name].dir, file)
		binaries = append(binaries, binary)
		// Debian's alternatives choose among several programs of one name.
		short, _, _ := strings.Cut(path.Base(file), ".")
		content.file("usr/bin/"+short, binary, 0o755)
	}
	for _, p := range t.packages {
		dirs = append(dirs, p.dir)
	}
	slices.Sort(dirs)
	found, err := t.arch.libraries(binaries, dirs)
	if err != nil {
		return err
	}
	t.arch.addLibraries(content, found)
	t.arch.linkLoader(content)
	return nil
}
