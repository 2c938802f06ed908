package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestPasswordsAreQuoted(t *testing.T) {
	got := statements(`a'; DROP ROLE postgres; --\`)
	want := "CREATE ROLE shop LOGIN PASSWORD 'a''; DROP ROLE postgres; --\\'\nCREATE DATABASE shop OWNER shop\n"
	if got != want {
		t.Errorf("statements:\n%s\nexpected:\n%s", got, want)
	}
}

func TestReadPassword(t *testing.T) {
	file := filepath.Join(t.TempDir(), "password")
	for _, c := range []struct {
		content, want, complaint string
	}{
		{content: "secret", want: "secret"},
		{content: "secret\n", want: "secret"},
		{content: "with blanks and é", want: "with blanks and é"},
		{content: "", complaint: "empty"},
		{content: "\n", complaint: "empty"},
		{content: "two\nlines", complaint: "control characters"},
		{content: "nul\x00", complaint: "control characters"},
		{content: strings.Repeat("x", maxPassword+1), complaint: "longer"},
	} {
		if err := os.WriteFile(file, []byte(c.content), 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := readPassword(file)
		if got != c.want || (err == nil) != (c.complaint == "") {
			t.Errorf("%q: %q, %v", c.content, got, err)
		}
		if err != nil && (!strings.Contains(err.Error(), c.complaint) || len(c.content) > 1 && strings.Contains(err.Error(), c.content)) {
			t.Errorf("%q: the error is %v", c.content, err)
		}
	}
	if _, err := readPassword(file + ".none"); err == nil {
		t.Error("no error for a file that is not there")
	}
}
