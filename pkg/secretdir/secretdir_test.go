package secretdir

import (
	"os"
	"path/filepath"
	"testing"
)

var self = Owner{UID: os.Getuid(), GID: os.Getgid()}

func TestWriteClosesFolderAndFilesToOthers(t *testing.T) {
	path := filepath.Join(t.TempDir(), "secrets", "etcd")
	if err := Write(path, self, map[string][]byte{"key.pem": []byte("one")}); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]os.FileMode{
		"":        os.ModeDir | 0o700,
		"key.pem": 0o400,
	} {
		info, err := os.Stat(filepath.Join(path, name))
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode() != want {
			t.Errorf("%q has mode %s, want %s", name, info.Mode(), want)
		}
	}
}

func TestWriteReplacesAFileAndKeepsTheOthers(t *testing.T) {
	path := filepath.Join(t.TempDir(), "etcd")
	for _, files := range []map[string][]byte{
		{"a": []byte("first"), "b": []byte("kept")},
		{"a": []byte("second")},
	} {
		if err := Write(path, self, files); err != nil {
			t.Fatal(err)
		}
	}
	for name, want := range map[string]string{"a": "second", "b": "kept"} {
		got, err := os.ReadFile(filepath.Join(path, name))
		if err != nil || string(got) != want {
			t.Errorf("%s holds %q (%v), want %q", name, got, err, want)
		}
	}
	if entries, _ := os.ReadDir(path); len(entries) != 2 {
		t.Errorf("%d entries, want 2: a temporary file was left", len(entries))
	}
}

// A service that puts a link where a file will be written must not make root
// write through it.
func TestWriteDoesNotFollowLinksOfTheService(t *testing.T) {
	base := t.TempDir()
	outside := filepath.Join(base, "outside")
	if err := os.WriteFile(outside, []byte("untouched"), 0o600); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(base, "svc")
	if err := Make(path, self); err != nil {
		t.Fatal(err)
	}
	for _, link := range []string{"key", ".key.new"} {
		if err := os.Symlink(outside, filepath.Join(path, link)); err != nil {
			t.Fatal(err)
		}
	}
	if err := Write(path, self, map[string][]byte{"key": []byte("secret")}); err != nil {
		t.Fatal(err)
	}
	if got, _ := os.ReadFile(outside); string(got) != "untouched" {
		t.Errorf("the file behind the link now holds %q", got)
	}
	if info, err := os.Lstat(filepath.Join(path, "key")); err != nil || !info.Mode().IsRegular() {
		t.Errorf("key is %v (%v), want a regular file", info, err)
	}
}
