package flanneld

import (
	"flag"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"
)

var update = flag.Bool("update", false, "write the golden file anew")

func TestConflist(t *testing.T) {
	got, err := conflist("10.244.3.0/24", 1450)
	if err != nil {
		t.Fatal(err)
	}
	golden := filepath.Join("testdata", "keelson.conflist")
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
}

func TestCommandNeedsItsFlags(t *testing.T) {
	command := NewCommand()
	command.SetArgs([]string{"--node-name=x"})
	command.SetErr(io.Discard)
	if err := command.Execute(); err == nil {
		t.Error("started without its files")
	}
}

func TestKeyIsKeptUnlessItIsHalf(t *testing.T) {
	t.Setenv(keyVariable, "")
	file := filepath.Join(t.TempDir(), "wireguard.key")
	read := func() string {
		t.Helper()
		if err := ensureKey(file); err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(file)
		if err != nil || info.Mode() != 0o600 {
			t.Fatalf("the key has mode %v (%v), want 0600", info.Mode(), err)
		}
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := wgtypes.ParseKey(string(text)); err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	first := read()
	if read() != first {
		t.Error("a good key was replaced")
	}
	if err := os.WriteFile(file, []byte(first[:10]), 0o600); err != nil {
		t.Fatal(err)
	}
	if read() == first {
		t.Error("the same key was made again")
	}
	if got := os.Getenv(keyVariable); got != file {
		t.Errorf("the backend is told %q, want %q", got, file)
	}
}

func TestProblemsAreBounded(t *testing.T) {
	p := &problems{file: filepath.Join(t.TempDir(), "problems")}
	for _, c := range []struct {
		problems []string
		want     string
	}{
		{nil, ""},
		{[]string{"one\nof two lines", "two"}, "one of two lines\ntwo\n"},
		{slices.Repeat([]string{"two"}, maxProblems+3), strings.Repeat("two\n", maxProblems) + "and 3 more\n"},
		{nil, ""},
	} {
		p.set(c.problems)
		if got, err := os.ReadFile(p.file); err != nil || string(got) != c.want {
			t.Errorf("%q: the file holds %q (%v), want %q", c.problems, got, err, c.want)
		}
	}
}
