package containers

import (
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/keelson-os/keelson/machined/supervise"
)

var update = flag.Bool("update", false, "write the golden files anew")

func TestConfig(t *testing.T) {
	flannel, addOn := &Service{options: Options{CNIUser: "flannel"}.withDefaults()}, &Service{options: Options{}.withDefaults()}
	got, err := flannel.config()
	if err != nil {
		t.Fatal(err)
	}
	golden := filepath.Join("testdata", "config.toml")
	if *update {
		if err := os.WriteFile(golden, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("differs from %s (go test -update writes it anew):\n%s", golden, diff)
	}

	// With an add-on's network all is the same, but for its plugins.
	got, err = addOn.config()
	if err != nil {
		t.Fatal(err)
	}
	changed := strings.Replace(string(want), "bin_dirs = ['/usr/libexec/cni']", "bin_dirs = ['/var/lib/cni/bin', '/usr/libexec/cni']", 1)
	if diff := cmp.Diff(changed, string(got)); diff != "" {
		t.Errorf("for an add-on it differs in more than the plugins:\n%s", diff)
	}
}

func TestPrepareMakesTheFoldersOfThePodNetwork(t *testing.T) {
	errNobody := errors.New("no such user")
	lookup := func(name string) (supervise.User, error) {
		if name != "flannel" {
			return supervise.User{}, errNobody
		}
		return supervise.User{UID: uint32(os.Getuid()), GID: uint32(os.Getgid())}, nil
	}
	for _, c := range []struct {
		user    string
		plugins bool
		err     error
	}{
		{"flannel", false, nil},
		{"", true, nil}, // an add-on's
		{"nobody", false, errNobody},
	} {
		base := t.TempDir()
		s := &Service{options: Options{
			CNIUser: c.user, LookupUser: lookup,
			ConfigDir: filepath.Join(base, "config"), CNIDir: filepath.Join(base, "cni"), PluginDir: filepath.Join(base, "plugins/bin"),
		}}
		if err := s.prepare(t.Context()); !errors.Is(err, c.err) {
			t.Fatalf("%q: %v, want %v", c.user, err, c.err)
		}
		if info, err := os.Stat(s.options.CNIDir); c.err == nil && (err != nil || info.Mode().Perm() != 0o700) {
			t.Errorf("%q: the CNI folder is %v (%v)", c.user, info, err)
		}
		if _, err := os.Stat(s.options.PluginDir); (err == nil) != c.plugins {
			t.Errorf("%q: the folder for plugins: %v", c.user, err)
		}
	}
}
