package balancer

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/keelson-os/keelson/machined/supervise"
	"github.com/keelson-os/keelson/pkg/machineconfig"
)

func addresses(list ...string) []netip.AddrPort {
	var all []netip.AddrPort
	for _, each := range list {
		all = append(all, netip.MustParseAddrPort(each))
	}
	return all
}

func testOptions(t *testing.T) Options {
	base := t.TempDir()
	return Options{
		ControlPlanes: []machineconfig.Host{"10.0.0.1", "fd00::1", "cp.example.com"},
		CA:            []byte("a certificate"),
		Keep:          filepath.Join(base, "lib", "control-plane.json"),
		LookupUser: func(string) (supervise.User, error) {
			return supervise.User{UID: uint32(os.Getuid()), GID: uint32(os.Getgid())}, nil
		},
		Log: slog.New(slog.NewTextHandler(t.Output(), nil)),
		Dir: filepath.Join(base, "run"),
	}
}

func written(t *testing.T, o Options) []string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(o.Dir, upstreamsFile))
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	if err := json.Unmarshal(text, &list); err != nil {
		t.Fatal(err)
	}
	return list
}

func TestUpstreamsAreKeptOverAReboot(t *testing.T) {
	o := testOptions(t)
	config := []string{"10.0.0.1:6443", "[fd00::1]:6443", "cp.example.com:6443"}
	s := New(o)
	if err := s.Spec().Prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := written(t, o); !slices.Equal(got, config) {
		t.Errorf("at first: %v, want the config's %v", got, config)
	}
	if err := s.SetUpstreams(addresses("10.0.0.9:6443", "10.0.0.1:6443", "10.0.0.9:6443")); err != nil {
		t.Fatal(err)
	}
	want := []string{"10.0.0.1:6443", "10.0.0.9:6443", "[fd00::1]:6443", "cp.example.com:6443"}
	if got := written(t, o); !slices.Equal(got, want) {
		t.Errorf("told of another: %v, want %v", got, want)
	}
	if err := s.SetUpstreams(nil); err != nil || !slices.Equal(s.Upstreams(), want) {
		t.Errorf("told of none at all: %v, %v", s.Upstreams(), err)
	}
	if got := New(o).Upstreams(); !slices.Equal(got, want) {
		t.Errorf("after a reboot: %v, want %v", got, want)
	}
	if info, err := os.Stat(o.Keep); err != nil || info.Mode() != 0o600 {
		t.Errorf("the kept file: %v, %v", info.Mode(), err)
	}
}

func TestTheFileIsWrittenOnlyWhenItChanges(t *testing.T) {
	o := testOptions(t)
	s := New(o)
	if err := s.SetUpstreams(addresses("10.0.0.9:6443", "10.0.0.8:6443")); err != nil {
		t.Fatal(err)
	}
	before, err := os.Stat(filepath.Join(o.Dir, upstreamsFile))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.SetUpstreams(addresses("10.0.0.8:6443", "10.0.0.9:6443")); err != nil {
		t.Fatal(err)
	}
	if after, err := os.Stat(filepath.Join(o.Dir, upstreamsFile)); err != nil || !os.SameFile(before, after) {
		t.Errorf("the same servers in another order replaced the file (%v)", err)
	}
}

func TestListsThatCannotBeAreRefused(t *testing.T) {
	var many []netip.AddrPort
	for i := range maxUpstreams + 1 {
		many = append(many, netip.MustParseAddrPort(fmt.Sprintf("10.0.0.%d:6443", i+1)))
	}
	for want, list := range map[string][]netip.AddrPort{
		"at most 64":                      many,
		"0.0.0.0:6443 cannot be":          addresses("0.0.0.0:6443"),
		"224.0.0.1:6443 cannot be":        addresses("10.0.0.1:6443", "224.0.0.1:6443"),
		"10.0.0.1:0 cannot be":            addresses("10.0.0.1:0"),
		"invalid AddrPort cannot be the ": {{}},
	} {
		o := testOptions(t)
		s := New(o)
		if err := s.SetUpstreams(list); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
		if _, err := os.Stat(o.Keep); err == nil {
			t.Errorf("%s: it is kept nevertheless", want)
		}
	}
}

func TestABrokenKeptFileLeavesTheConfigs(t *testing.T) {
	for name, text := range map[string]string{
		"empty":     "",
		"truncated": `["10.0.0.9:64`,
		"a name":    `["cp.example.com:6443"]`,
		"too long":  `["` + strings.Repeat("1", maxKept) + `"]`,
	} {
		o := testOptions(t)
		o.Keep = filepath.Join(t.TempDir(), "control-plane.json")
		if err := os.WriteFile(o.Keep, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Load(o.Keep); err == nil {
			t.Errorf("%s: loaded", name)
		}
		if got := New(o).Upstreams(); len(got) != len(o.ControlPlanes) {
			t.Errorf("%s: %v", name, got)
		}
	}
}
