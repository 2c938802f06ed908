package mark

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

func TestMarksAreSetReplacedAndCleared(t *testing.T) {
	dir := t.TempDir()
	want := func(content string, set bool) {
		t.Helper()
		if got, is, err := Get(dir, "pending"); err != nil || got != content || is != set {
			t.Fatalf("got %q, %t, %v; want %q, %t", got, is, err, content, set)
		}
	}
	want("", false)
	for _, content := range []string{"", "snapshot.db"} {
		if err := Set(dir, "pending", content); err != nil {
			t.Fatal(err)
		}
		want(content, true)
	}
	for range 2 {
		if err := Clear(dir, "pending"); err != nil {
			t.Fatal(err)
		}
		want("", false)
	}
	if _, set, err := Get(filepath.Join(dir, "none"), "pending"); err != nil || set {
		t.Errorf("in a folder that is not there: %t, %v", set, err)
	}
}

func TestGetIsNotHeldUpByWhatAServiceLeaves(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mkfifo(filepath.Join(dir, "pending"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, set, err := Get(dir, "pending"); err != nil || !set {
		t.Errorf("a pipe: %t, %v", set, err)
	}
	if err := os.Symlink("/dev/zero", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	if _, _, err := Get(dir, "link"); err == nil {
		t.Error("a link out of the folder was followed")
	}
}
