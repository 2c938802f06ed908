package provision

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestShortenKeepsTheNewestContentAndTheWriter(t *testing.T) {
	path := filepath.Join(t.TempDir(), "console.log")
	check(t, shorten(path, 8)) // not there yet: no error
	writer, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	check(t, err)
	defer writer.Close()
	holds := func(name, want string) {
		t.Helper()
		if got, err := os.ReadFile(name); err != nil || string(got) != want {
			t.Errorf("%s holds %q, %v; want %q", name, got, err, want)
		}
	}
	write := func(text string) {
		t.Helper()
		_, err := writer.WriteString(text)
		check(t, err)
		check(t, shorten(path, 8))
	}
	write("1234567")
	holds(path, "1234567")
	write("89")
	holds(path, "")
	holds(path+oldSuffix, "23456789")
	write("next")
	holds(path, "next")
	write(" is longer")
	holds(path+oldSuffix, "s longer")
	if info, err := os.Stat(path + oldSuffix); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
}

// Whatever a running cluster writes to is bounded, and readable by its owner only.
func TestEveryLogOfAClusterIsBoundedAndPrivate(t *testing.T) {
	w := newWorld(t)
	useFakeQEMU(t)
	c := w.create(t, nil)
	bounded := growing(c.dir, c.spec.Nodes)
	check(t, filepath.WalkDir(c.dir, func(path string, entry os.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		info, err := entry.Info()
		check(t, err)
		if info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v", path, info.Mode())
		}
		if strings.HasSuffix(path, ".log") && !slices.Contains(bounded, path) {
			t.Errorf("nothing bounds %s", path)
		}
		return nil
	}))
	large := make([]byte, maxLog)
	check(t, os.WriteFile(c.Console("w-1"), large, 0o600))
	eventually(t, "the network process cut the console", func() bool {
		info, err := os.Stat(c.Console("w-1"))
		return err == nil && info.Size() < maxLog
	})
}
