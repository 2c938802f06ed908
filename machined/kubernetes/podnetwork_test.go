package kubernetes

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/keelson-os/keelson/pkg/machineconfig"
	"golang.org/x/sys/unix"
)

func TestPodNetworkSaysWhatFlannelSays(t *testing.T) {
	k := testKubernetes(t, Options{Hostname: "node-1", Root: t.TempDir()})
	dir := k.path(flannelDir)
	file := filepath.Join(dir, problemsFile)
	secret := k.path("secret")
	if err := errors.Join(os.MkdirAll(dir, 0o700), os.WriteFile(secret, []byte("root:secret"), 0o600)); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name    string
		make    func() error
		ok      bool
		message string
	}{
		{"nothing yet", func() error { return nil }, false, "not set up yet"},
		{"no problem", func() error { return os.WriteFile(file, nil, 0o600) }, true, "vxlan"},
		{"problems", func() error { return os.WriteFile(file, []byte("one\ntwo\x1b[2J\xff\n"), 0o600) }, false, "one; two?[2J?"},
		{"endless", func() error { return os.WriteFile(file, make([]byte, 1<<20), 0o600) }, false, strings.Repeat("?", 100)},
		{"a link", func() error { return os.Symlink(secret, file) }, false, "path escapes"},
		{"a pipe", func() error { return unix.Mkfifo(file, 0o600) }, true, "vxlan"},
	} {
		if err := c.make(); err != nil {
			t.Fatal(err)
		}
		check := k.checkPodNetwork()
		if check.OK != c.ok || !strings.Contains(check.Message, c.message) || len(check.Message) > maxProblemsFile || strings.Contains(check.Message, "secret") {
			t.Errorf("%s: %t, %.100q", c.name, check.OK, check.Message)
		}
		_ = os.Remove(file)
	}
}

func TestAnAddOnsPodNetworkTakesFlannelsPlace(t *testing.T) {
	k := testKubernetes(t, Options{Hostname: "node-1"})
	names := func() []string {
		var names []string
		for _, spec := range k.Services() {
			names = append(names, spec.Name)
		}
		return names
	}
	with := names()
	k.options.Config.Cluster.Network.CNI = machineconfig.CNINone
	without := slices.DeleteFunc(with, func(name string) bool { return name == Flannel })
	if got := names(); !slices.Equal(got, without) || !slices.Contains(got, KubeProxy) {
		t.Errorf("services %q, want %q", got, without)
	}
	if check := k.checkPodNetwork(); !check.OK || !strings.Contains(check.Message, "add-on") {
		t.Errorf("health says %t, %q", check.OK, check.Message)
	}
}
