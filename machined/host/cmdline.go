package host

import (
	"fmt"
	"io/fs"
	"strings"
)

// CommandLine is the kernel command line: what stands after each name. A name
// without = has the value "". Names repeat (console=tty0 console=ttyS0).
type CommandLine map[string][]string

// ReadCommandLine reads the running kernel's command line.
func ReadCommandLine(root fs.FS) (CommandLine, error) {
	line, err := fs.ReadFile(root, "proc/cmdline")
	if err != nil {
		return nil, fmt.Errorf("read the kernel command line: %w", err)
	}
	return ParseCommandLine(string(line)), nil
}

// ParseCommandLine splits a command line as the kernel does (lib/cmdline.c,
// next_arg): words end at white space outside double quotes; quotes around a
// word or a value are dropped, others stay. Every line is valid. What follows
// "--" is for init and is left out.
func ParseCommandLine(line string) CommandLine {
	parsed := CommandLine{}
	for _, word := range splitWords(line) {
		if word == "--" {
			break
		}
		if strings.HasPrefix(word, `"`) {
			word = unquote(word)
		}
		name, value, _ := strings.Cut(word, "=")
		parsed[name] = append(parsed[name], unquote(value))
	}
	return parsed
}

// Last is the last value of a name: later words override earlier ones. The
// second result tells whether the name is there at all.
func (c CommandLine) Last(name string) (string, bool) {
	values := c[name]
	if len(values) == 0 {
		return "", false
	}
	return values[len(values)-1], true
}

func splitWords(line string) []string {
	var words []string
	quoted, start := false, -1
	for i := range len(line) {
		switch c := line[i]; {
		case !quoted && strings.IndexByte(" \t\n\v\f\r", c) >= 0:
			if start >= 0 {
				words = append(words, line[start:i])
			}
			start = -1
			continue
		case c == '"':
			quoted = !quoted
		}
		if start < 0 {
			start = i
		}
	}
	if start >= 0 {
		words = append(words, line[start:])
	}
	return words
}

func unquote(s string) string {
	if !strings.HasPrefix(s, `"`) {
		return s
	}
	return strings.TrimSuffix(s[1:], `"`)
}
