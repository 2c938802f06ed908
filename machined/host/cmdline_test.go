package host

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseCommandLine(t *testing.T) {
	for line, want := range map[string]CommandLine{
		"":                                {},
		"  \n":                            {},
		"quiet":                           {"quiet": {""}},
		"console=tty0 console=ttyS0\n":    {"console": {"tty0", "ttyS0"}},
		"a=b=c":                           {"a": {"b=c"}},
		`dyndbg="file a.c +p" x`:          {"dyndbg": {"file a.c +p"}, "x": {""}},
		`"dyndbg=file a.c +p" x`:          {"dyndbg": {"file a.c +p"}, "x": {""}},
		`open="no end`:                    {"open": {"no end"}},
		"keelson.config=http://h/?a=b&c ": {"keelson.config": {"http://h/?a=b&c"}},
		"root=x -- --init-flag=1":         {"root": {"x"}},
		"=x":                              {"": {"x"}},
	} {
		if diff := cmp.Diff(want, ParseCommandLine(line)); diff != "" {
			t.Errorf("%q (-want +got):\n%s", line, diff)
		}
	}
}

func TestLastWins(t *testing.T) {
	line := ParseCommandLine("a=1 a=2")
	if value, ok := line.Last("a"); value != "2" || !ok {
		t.Errorf("a = %q, %v", value, ok)
	}
	if value, ok := line.Last("b"); value != "" || ok {
		t.Errorf("b = %q, %v", value, ok)
	}
}

func FuzzParseCommandLine(f *testing.F) {
	f.Add(`console=ttyS0 "a b=c" d="e f" -- g`)
	f.Fuzz(func(t *testing.T, line string) {
		values := 0
		for name, list := range ParseCommandLine(line) {
			values += len(list)
			if strings.Contains(name, "=") {
				t.Errorf("name %q holds an equals sign", name)
			}
		}
		if words := len(strings.Fields(line)); values > words {
			t.Errorf("%d values from %d words", values, words)
		}
	})
}
