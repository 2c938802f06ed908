package main

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"testing"
	"time"

	"github.com/cavaliergopher/cpio"
)

func sampleTree() *tree {
	t := newTree()
	t.text("etc/os-release", "ID=x\n")
	t.link("bin", "usr/bin")
	t.dir("tmp", fs.ModeSticky|0o777)
	t.dir("usr/bin", 0o755)
	return t
}

func TestTreeAsTar(t *testing.T) {
	var archive bytes.Buffer
	if err := sampleTree().writeTar(&archive, time.Unix(99, 0)); err != nil {
		t.Fatal(err)
	}
	var got []string
	for r := tar.NewReader(&archive); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		if h.Uid != 0 || h.Gid != 0 || h.Uname != "" || h.ModTime.Unix() != 99 {
			t.Errorf("%s belongs to %d:%d %q and is from %s", h.Name, h.Uid, h.Gid, h.Uname, h.ModTime)
		}
		got = append(got, fmt.Sprintf("%s %c %o %s%s", h.Name, h.Typeflag, h.Mode, h.Linkname, content))
	}
	want := "bin 2 777 usr/bin|etc/ 5 755 |etc/os-release 0 644 ID=x\n|tmp/ 5 1777 |usr/ 5 755 |usr/bin/ 5 755 "
	if strings.Join(got, "|") != want {
		t.Errorf("tar holds\n%s, expected\n%s", strings.Join(got, "|"), want)
	}
}

func TestTreeAsCPIO(t *testing.T) {
	var archive bytes.Buffer
	if err := sampleTree().writeCPIO(&archive, time.Unix(99, 0)); err != nil {
		t.Fatal(err)
	}
	var got []string
	for r := cpio.NewReader(&archive); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, fmt.Sprintf("%s %o %s", h.Name, h.Mode, h.Linkname))
	}
	want := "bin 120777 usr/bin|etc 40755 |etc/os-release 100644 |tmp 40777 |usr 40755 |usr/bin 40755 "
	if strings.Join(got, "|") != want {
		t.Errorf("cpio holds\n%s, expected\n%s", strings.Join(got, "|"), want)
	}
}

func TestTreeRefusesContradictions(t *testing.T) {
	for name, add := range map[string]func(*tree){
		"usr/bin/x is added twice": func(t *tree) { t.text("usr/bin/x", ""); t.text("usr/bin/x", "") },
		"etc is added twice":       func(t *tree) { t.link("etc", "usr/etc") },
		"bin, which is no folder":  func(t *tree) { t.text("bin/x", "") },
	} {
		tree := sampleTree()
		add(tree)
		if err := tree.writeTar(io.Discard, time.Time{}); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("expected an error with %q, got %v", name, err)
		}
	}
}
