package host

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
)

// Sysctl is one kernel setting, named with dots as sysctl(8) has it.
type Sysctl struct {
	Name, Value string
}

// Sysctls returns the node's settings: what Kubernetes needs and what the Kernel
// Self Protection Project recommends as far as Kubernetes allows it, then the
// machine config's own, which win.
func Sysctls(own map[string]string) []Sysctl {
	settings := slices.Concat(kubernetesSysctls, hardeningSysctls)
	settings = slices.DeleteFunc(settings, func(s Sysctl) bool {
		_, replaced := own[s.Name]
		return replaced
	})
	for _, name := range slices.Sorted(maps.Keys(own)) {
		settings = append(settings, Sysctl{name, own[name]})
	}
	return settings
}

// ApplySysctls writes the settings. absent lists those that this kernel does not
// have, which is no error: a module may be missing on purpose. The error joins
// those that the kernel refused; the others are in force.
func ApplySysctls(os OS, settings []Sysctl) (absent []string, err error) {
	var refused []error
	for _, s := range settings {
		path, err := sysctlPath(s.Name)
		if err == nil {
			err = os.WriteControl(path, s.Value)
		}
		switch {
		case err != nil && holds(os.Root(), path, s.Value):
			// Some can only be raised, and refuse even what they hold.
		case errors.Is(err, fs.ErrNotExist):
			absent = append(absent, s.Name)
		case err != nil:
			refused = append(refused, fmt.Errorf("set sysctl %s to %q: %w", s.Name, s.Value, err))
		}
	}
	return absent, errors.Join(refused...)
}

// holds tells whether a sysctl has a value already.
func holds(root fs.FS, path, value string) bool {
	now, err := fs.ReadFile(root, strings.TrimPrefix(path, "/"))
	return err == nil && strings.TrimSpace(string(now)) == value
}

// sysctlPath turns a dotted name into its file. As in sysctl(8), a slash inside
// a component stands for a dot: net.ipv4.conf.eth0/100.rp_filter.
func sysctlPath(name string) (string, error) {
	path := strings.Map(func(r rune) rune {
		switch r {
		case '.':
			return '/'
		case '/':
			return '.'
		}
		return r
	}, name)
	if !fs.ValidPath(path) || path == "." {
		return "", fmt.Errorf("%q is not a sysctl name such as vm.max_map_count", name)
	}
	return "/proc/sys/" + path, nil
}
