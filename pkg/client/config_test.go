package client

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sync/errgroup"
)

func TestConfigSurvivesTheFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sub", "config.yaml")
	want := &Config{Current: "dev", Contexts: map[string]*Context{
		"dev": {Endpoints: []string{"127.0.0.1:4000"}, Nodes: []string{"dev-1"}, CA: "ca\n", Cert: "cert\n", Key: "line\nline\n"},
	}}
	if err := want.Save(path); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	got, err := LoadConfig(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	if err := UpdateConfig(path, func(config *Config) error { config.Remove("dev"); return nil }); err != nil {
		t.Fatal(err)
	}
	if got, _ := LoadConfig(path); got.Current != "" || len(got.Contexts) != 0 {
		t.Errorf("after removing the context: %+v", got)
	}
}

func TestUpdatesAtTheSameTimeLoseNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sub", "config.yaml")
	const writers = 8
	var group errgroup.Group
	for i := range writers {
		group.Go(func() error {
			return UpdateConfig(path, func(config *Config) error {
				config.Contexts[fmt.Sprint(i)] = &Context{Endpoints: []string{"a"}}
				return nil
			})
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	if config, err := LoadConfig(path); err != nil || len(config.Contexts) != writers {
		t.Errorf("%d contexts of %d, %v", len(config.Contexts), writers, err)
	}
}

func TestLoadConfigOfNoFileIsEmpty(t *testing.T) {
	config, err := LoadConfig(filepath.Join(t.TempDir(), "none.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := config.Get(""); err == nil || !strings.Contains(err.Error(), "osctl cluster create") {
		t.Errorf("got %v", err)
	}
}

func TestLoadConfigErrorsNameTheFileAndNoKey(t *testing.T) {
	for name, text := range map[string]string{
		"unknown field": "contexts:\n  dev:\n    endpoints: [a]\n    kee: TOPSECRET\n",
		"wrong type":    "contexts:\n  dev:\n    endpoints: [a]\n    nodes: TOPSECRET\n",
		"no endpoints":  "contexts:\n  dev: {key: TOPSECRET}\n",
		"not YAML":      "contexts: [TOPSECRET",
	} {
		path := filepath.Join(t.TempDir(), "config.yaml")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := LoadConfig(path)
		if err == nil || !strings.Contains(err.Error(), path) || strings.Contains(err.Error(), "TOPSECRET") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestGetNamesTheContextsThereAre(t *testing.T) {
	config := &Config{Contexts: map[string]*Context{"b": {}, "a": {}}}
	if _, err := config.Get("c"); err == nil || !strings.Contains(err.Error(), "a, b") {
		t.Errorf("got %v", err)
	}
}
