package host

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"
)

// Modules is what depmod(8) wrote down about one kernel's modules. Names have
// underscores, whatever the file is called, as in /proc/modules.
//
// u-root's pkg/kmodule was looked at and not taken: it knows neither soft
// dependencies (ext4 needs one) nor aliases, reads every index again for each
// module, and unpacks in user space with three decompressors linked in.
type Modules struct {
	dir     string
	files   map[string]string   // module → its file below dir
	deps    map[string][]string // module → modules that have to be loaded before
	pre     map[string][]string // module → names or aliases better loaded before
	post    map[string][]string // … or after
	aliases map[string][]alias  // literal start of the pattern → patterns
	builtin map[string]bool
}

// alias is one line of modules.alias: devices that match the pattern are driven
// by the module.
type alias struct{ pattern, module string }

// ReadModules reads the indexes in dir ("lib/modules/6.12.57"), a directory of
// root. Only modules.dep is required; the others are empty when absent.
func ReadModules(root fs.FS, dir string) (*Modules, error) {
	m := &Modules{
		dir:     "/" + dir,
		files:   map[string]string{},
		deps:    map[string][]string{},
		pre:     map[string][]string{},
		post:    map[string][]string{},
		aliases: map[string][]alias{},
		builtin: map[string]bool{},
	}
	indexes := []struct {
		file     string
		required bool
		line     func(string) error
	}{
		{"modules.dep", true, m.depLine},
		{"modules.softdep", false, m.softdepLine},
		{"modules.alias", false, m.aliasLine},
		{"modules.builtin", false, m.builtinLine},
	}
	for _, index := range indexes {
		f, err := root.Open(path.Join(dir, index.file))
		if errors.Is(err, fs.ErrNotExist) && !index.required {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read the module index: %w", err)
		}
		err = eachLine(f, index.line)
		f.Close()
		if err != nil {
			return nil, fmt.Errorf("read %s/%s: %w", dir, index.file, err)
		}
	}
	return m, nil
}

// eachLine calls parse with each line that is not blank or a comment.
func eachLine(r io.Reader, parse func(string) error) error {
	lines := bufio.NewScanner(r)
	for number := 1; lines.Scan(); number++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		if err := parse(line); err != nil {
			return fmt.Errorf("line %d: %w", number, err)
		}
	}
	return lines.Err()
}

// depLine reads "kernel/fs/ext4/ext4.ko: kernel/lib/crc16.ko kernel/fs/jbd2/jbd2.ko".
func (m *Modules) depLine(line string) error {
	file, deps, ok := strings.Cut(line, ":")
	if !ok {
		return fmt.Errorf("%q has no colon after the module", line)
	}
	name := moduleName(file)
	m.files[name] = file
	for _, dep := range strings.Fields(deps) {
		m.deps[name] = append(m.deps[name], moduleName(dep))
	}
	return nil
}

// softdepLine reads "softdep ext4 pre: crc32c post: foo".
func (m *Modules) softdepLine(line string) error {
	words := strings.Fields(line)
	if len(words) < 2 || words[0] != "softdep" {
		return fmt.Errorf("%q does not start with softdep and a module", line)
	}
	name, list := canonical(words[1]), m.pre
	for _, word := range words[2:] {
		switch word {
		case "pre:":
			list = m.pre
		case "post:":
			list = m.post
		default:
			list[name] = append(list[name], word)
		}
	}
	return nil
}

// aliasLine reads "alias pci:v00001AF4d*sv*sd*bc*sc*i* virtio_pci".
func (m *Modules) aliasLine(line string) error {
	words := strings.Fields(line)
	if len(words) != 3 || words[0] != "alias" {
		return fmt.Errorf("%q is not: alias PATTERN MODULE", line)
	}
	a := alias{pattern: matchable(words[1]), module: canonical(words[2])}
	if _, err := path.Match(a.pattern, ""); err != nil {
		return fmt.Errorf("pattern %q: %w", words[1], err)
	}
	start := a.pattern
	if wild := strings.IndexAny(start, `*?[\`); wild >= 0 {
		start = start[:wild]
	}
	m.aliases[start] = append(m.aliases[start], a)
	return nil
}

func (m *Modules) builtinLine(line string) error {
	m.builtin[moduleName(line)] = true
	return nil
}

// ByAlias lists the modules for a device's modalias, or for an alias such as
// "crc32c", in the order of modules.alias. A device may have several drivers.
func (m *Modules) ByAlias(modalias string) []string {
	modalias = matchable(modalias)
	var names []string
	// Only patterns whose literal start is a start of the modalias can match:
	// some sixty look-ups instead of twenty thousand matches.
	for end := 0; end <= len(modalias); end++ {
		for _, a := range m.aliases[modalias[:end]] {
			if ok, err := path.Match(a.pattern, modalias); ok && err == nil {
				names = append(names, a.module)
			}
		}
	}
	return names
}

// matchable hides slashes from path.Match, whose * does not cross them; a
// modalias has no directories.
func matchable(s string) string { return strings.ReplaceAll(s, "/", "\x00") }

// moduleName is a module's name by its file: kernel/crypto/crc32c-intel.ko.xz
// is crc32c_intel.
func moduleName(file string) string {
	name, _, _ := strings.Cut(path.Base(file), ".ko")
	return canonical(name)
}

// canonical has underscores only: the kernel does not tell - from _.
func canonical(name string) string { return strings.ReplaceAll(name, "-", "_") }
