package main

import (
	"fmt"
	"strings"

	"github.com/keelson-os/keelson/pkg/osbundle"
	"github.com/keelson-os/keelson/pkg/version"
)

// account is a user and the group of the same name and number.
type account struct {
	name string
	id   int
	home string
}

// accounts are the users that services run as.
var accounts = []account{
	{"root", 0, "/root"},
	{"etcd", 100, "/var/lib/etcd"},
	{"kube-apiserver", 101, "/"},
	{"kube-controller-manager", 102, "/"},
	{"kube-scheduler", 103, "/"},
	{"kube-proxy", 104, "/"},
	{"flannel", 105, "/"},
	{"coredns", 106, "/"},
	{"apid", 107, "/"},
	{"balancer", 108, "/"},
	{"metrics-server", 109, "/"},
	{"local-path-provisioner", 110, "/"},
	{"nobody", 65534, "/"},
}

// imageName is what people know the image by.
func (b *build) imageName() string {
	return osbundle.Manifest{Version: version.Version, Build: b.BuildID}.Name()
}

// writtenEtc are the files below /etc that machined writes at run time; the
// root image holds links to where they are.
var writtenEtc = []string{"resolv.conf", "hosts", "hostname", "machine-id"}

// addEtc adds the few configuration files that do not come from a package.
func (b *build) addEtc(t *tree) {
	var passwd, group strings.Builder
	for _, a := range accounts {
		// Nobody logs in: there is no program that could let one in.
		fmt.Fprintf(&passwd, "%s:x:%d:%d::%s:/nonexistent\n", a.name, a.id, a.id, a.home)
		fmt.Fprintf(&group, "%s:x:%d:\n", a.name, a.id)
	}
	t.text("etc/passwd", passwd.String())
	t.text("etc/group", group.String())
	// Without this file Go's resolver asks DNS before it reads /etc/hosts.
	t.text("etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files dns\nprotocols: files\n")
	release := fmt.Sprintf(`NAME="Keelson"
ID=keelson
VERSION_ID=%s
PRETTY_NAME="Keelson %s"
`, strings.TrimPrefix(version.Version, "v"), b.imageName())
	if b.BuildID != "" {
		release += "BUILD_ID=" + b.BuildID + "\n"
	}
	t.text("usr/lib/os-release", release)
	t.link("etc/os-release", "../usr/lib/os-release")
	t.link("etc/mtab", "/proc/mounts")
	for _, name := range writtenEtc {
		t.link("etc/"+name, "/run/keelson/etc/"+name)
	}
}
