package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// unpackedPackages lays out packages as if dpkg-deb had unpacked them.
func unpackedPackages(t *testing.T, files map[string]string) map[string]debPackage {
	t.Helper()
	packages := map[string]debPackage{}
	root := t.TempDir()
	for file, content := range files {
		name, _, _ := strings.Cut(file, "/")
		packages[name] = debPackage{name: name, dir: filepath.Join(root, name)}
		path := filepath.Join(root, file)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if target, isLink := strings.CutPrefix(content, "-> "); isLink {
			if err := os.Symlink(target, path); err != nil {
				t.Fatal(err)
			}
		} else if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return packages
}

func TestDebianTreeTakesFilesAndTheirCopyrights(t *testing.T) {
	packages := unpackedPackages(t, map[string]string{
		"data/usr/share/data/one":             "1",
		"data/usr/share/data/deep/two":        "2",
		"data/usr/share/doc/data":             "-> data-common",
		"data-common/usr/share/data/a.sql":    "a",
		"data-common/usr/share/data/b.txt":    "b",
		"data-common/usr/share/doc/x":         "no licence",
		"unused/usr/share/doc/unused/x":       "nothing is taken from it",
		"below/usr/share/doc/below/copyright": "licence of below",
		"below/etc/below":                     "x",

		"data-common/usr/share/doc/data-common/copyright": "licence of both",
	})
	below := newDebianTree(amd64, "below", packages)
	below.data("below", "etc/below", "etc/below")
	if err := below.copyrights(nil); err != nil {
		t.Fatal(err)
	}
	d := newDebianTree(amd64, "test", packages)
	d.folder("data", "usr/share/data")
	d.glob("data-common", "usr/share/data/*.sql", d.data)
	d.data("below", "etc/below", "etc/again")
	if err := d.copyrights(below); err != nil {
		t.Fatal(err)
	}
	var got []string
	for name, n := range d.nodes {
		if n.file != "" {
			got = append(got, name)
		}
	}
	slices.Sort(got)
	want := []string{
		"etc/again", "usr/share/data/a.sql", "usr/share/data/deep/two", "usr/share/data/one",
		"usr/share/doc/data-common/copyright", "usr/share/doc/data/copyright",
	}
	if !slices.Equal(got, want) {
		t.Errorf("files\n%v, expected\n%v", got, want)
	}
	if content, err := os.ReadFile(d.nodes["usr/share/doc/data/copyright"].file); string(content) != "licence of both" {
		t.Errorf("the copyright of data is %q, %v", content, err)
	}
}

func TestDebianTreeSaysWhatIsMissing(t *testing.T) {
	packages := unpackedPackages(t, map[string]string{
		"free/etc/free":           "x",
		"linked/etc/linked":       "x",
		"linked/usr/share/doc/l":  "x",
		"linked/usr/share/doc/ll": "x",
	})
	packages["linked2"] = unpackedPackages(t, map[string]string{"linked2/usr/share/doc/linked2": "-> absent"})["linked2"]
	for want, fill := range map[string]func(*debianTree){
		"copyright file of the package free":    func(d *debianTree) { d.data("free", "etc/free", "etc/free") },
		"copyright file of the package linked2": func(d *debianTree) { d.used["linked2"] = true },
		"free has no etc/*.so":                  func(d *debianTree) { d.glob("free", "etc/*.so", d.program) },
		"add usr/none of the package free":      func(d *debianTree) { d.folder("free", "usr/none") },
	} {
		d := newDebianTree(amd64, "test", packages)
		fill(d)
		err := d.err
		if err == nil {
			err = d.copyrights(nil)
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, expected one with %q", err, want)
		}
	}
}
