package main

import (
	"flag"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// parseProfile reads flags, and a profile beside the files named.
func parseProfile(t *testing.T, text string, args ...string) (profile, error) {
	t.Helper()
	dir := t.TempDir()
	for name, content := range map[string]string{"profile.yaml": text, "a.tar": "a", "key.pem": "k", "cert.pem": "c", "bad.yaml": "kind: Machin"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var p profile
	flags := flag.NewFlagSet("images", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	finish := p.addFlags(flags)
	for i := range args {
		args[i] = strings.ReplaceAll(args[i], "DIR", dir)
	}
	if text != "" {
		args = append(args, "-profile", filepath.Join(dir, "profile.yaml"))
	}
	if err := flags.Parse(args); err != nil {
		t.Fatal(err)
	}
	return p, finish()
}

func consolesOf(p profile) []string {
	b := build{arch: amd64, profile: p}
	return b.consoles()
}

func TestProfile(t *testing.T) {
	p, err := parseProfile(t, `
buildID: one
kernelArgs: [a=1]
consoles: [ttyS1]
modules: [nvme_tcp]
images: [a.tar]
secureBoot: {key: key.pem, certificate: cert.pem}
`, "-kernel-arg", "b=2", "-build-id", "two", "-image", "DIR/a.tar", "-module", "nfsd")
	if err != nil {
		t.Fatal(err)
	}
	if p.BuildID != "two" || !slices.Equal(p.KernelArgs, []string{"a=1", "b=2"}) || !slices.Equal(p.Modules, []string{"nvme_tcp", "nfsd"}) {
		t.Errorf("%+v", p)
	}
	if len(p.Images) != 2 || p.Images[0] != p.Images[1] || !filepath.IsAbs(p.SecureBoot.Key) {
		t.Errorf("files are not beside the profile: %+v", p)
	}
	if got := consolesOf(p); !slices.Equal(got, []string{"console=ttyS1"}) {
		t.Errorf("consoles %v", got)
	}
	p, err = parseProfile(t, "consoles: [ttyS1]", "-console", "tty0", "-console", "ttyS0,115200n8")
	if got := consolesOf(p); err != nil || !slices.Equal(got, []string{"console=tty0", "console=ttyS0,115200n8"}) {
		t.Errorf("consoles %v: %v", got, err)
	}
	p, err = parseProfile(t, "")
	if got := consolesOf(p); err != nil || !slices.Equal(got, []string{"console=tty0", "console=ttyS0"}) {
		t.Errorf("consoles %v: %v", got, err)
	}
}

func TestProfilesThatAreWrong(t *testing.T) {
	for want, text := range map[string]string{
		`unknown field "kernelArg"`:        "kernelArg: [a]",
		`kernel argument "a b"`:            "kernelArgs: [a b]",
		`console "ttyS0 quiet"`:            "consoles: [ttyS0 quiet]",
		`kernel module "../x"`:             "modules: [../x]",
		`build ID "a/b"`:                   "buildID: a/b",
		"no such file":                     "images: [none.tar]",
		"is no file":                       "images: [.]",
		"needs both a key":                 "secureBoot: {key: key.pem}",
		`bad.yaml`:                         "config: bad.yaml",
		"profile.yaml: error converting Y": "a: [",
	} {
		if _, err := parseProfile(t, text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: want %q: %v", text, want, err)
		}
	}
}
