package containers

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/keelson-os/keelson/machined/supervise"
	"github.com/keelson-os/keelson/pkg/machineconfig"
)

var testRegistries = machineconfig.Registries{
	Mirrors: map[string]machineconfig.Mirror{
		"docker.io":               {Endpoints: []string{"https://mirror.lan:5000/v2/docker", "http://plain.lan"}, OverridePath: true},
		"only.example.com":        {Endpoints: []string{"https://first.lan", "https://last.lan/v2/only"}, SkipFallback: true, OverridePath: true},
		"[fd00::5]:5000":          {Endpoints: []string{"http://[fd00::5]:5000"}, SkipFallback: true},
		machineconfig.AnyRegistry: {Endpoints: []string{"https://mirror.lan:5000"}},
	},
	Config: map[string]machineconfig.RegistryHost{
		"mirror.lan:5000": {
			Auth: machineconfig.RegistryAuth{Username: "node", Password: `a "quoted" \ word`},
			TLS:  machineconfig.RegistryTLS{CA: "mirror's CA", ClientIdentity: machineconfig.ClientIdentity{Cert: "node's cert", Key: "node's key"}},
		},
		"docker.io":               {Auth: machineconfig.RegistryAuth{Auth: "dTpw"}},
		"quay.io":                 {Auth: machineconfig.RegistryAuth{IdentityToken: "token"}},
		"trusted.lan":             {TLS: machineconfig.RegistryTLS{CA: "its CA"}},
		machineconfig.AnyRegistry: {TLS: machineconfig.RegistryTLS{CA: "house CA"}},
	},
}

func TestRegistryFiles(t *testing.T) {
	var got strings.Builder
	for _, each := range []struct {
		name       string
		registries machineconfig.Registries
	}{{"none", machineconfig.Registries{}}, {"some", testRegistries}} {
		fmt.Fprintf(&got, "##### %s\n", each.name)
		folders := registryFiles("/config", &each.registries)
		for _, folder := range slices.Sorted(maps.Keys(folders)) {
			for _, name := range slices.Sorted(maps.Keys(folders[folder])) {
				fmt.Fprintf(&got, "### %s/%s\n%s\n", folder, name, folders[folder][name])
			}
		}
		s := &Service{options: Options{CNIUser: "flannel", ConfigDir: "/config", Registries: each.registries}.withDefaults()}
		text, err := s.config()
		if err != nil {
			t.Fatal(err)
		}
		_, images, _ := strings.Cut(string(text), "[plugins.'io.containerd.cri.v1.images'.registry]")
		images, _, _ = strings.Cut(images, "[plugins.'io.containerd.cri.v1.runtime']")
		fmt.Fprintf(&got, "### config.toml%s", images)
	}
	golden := filepath.Join("testdata", "registries.txt")
	if *update {
		if err := os.WriteFile(golden, []byte(got.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got.String()); diff != "" {
		t.Errorf("differs from %s (go test -update writes it anew):\n%s", golden, diff)
	}
}

func TestNobodyElseReadsCredentials(t *testing.T) {
	base := t.TempDir()
	s := &Service{options: Options{
		CNIUser: "flannel", Registries: testRegistries,
		LookupUser: func(string) (supervise.User, error) {
			return supervise.User{UID: uint32(os.Getuid()), GID: uint32(os.Getgid())}, nil
		},
		ConfigDir: filepath.Join(base, "config"), CNIDir: filepath.Join(base, "cni"),
	}}
	if err := s.prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(s.options.ConfigDir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the folder: %v, %v", info, err)
	}
	count := 0
	err := filepath.WalkDir(s.options.ConfigDir, func(path string, entry os.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		count++
		info, err := entry.Info()
		if err == nil && info.Mode().Perm() != 0o400 {
			t.Errorf("%s has mode %s", path, info.Mode())
		}
		return err
	})
	if err != nil || count < 10 {
		t.Errorf("%d files, %v", count, err)
	}
}
