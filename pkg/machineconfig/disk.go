package machineconfig

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Disk is what a selector looks at.
type Disk struct {
	// Path is the device node: "/dev/sda".
	Path                          string
	Size                          uint64 // bytes
	Model, Serial, WWN, Transport string
	Rotational                    bool
}

// Given tells whether the selector asks for anything.
func (s *DiskSelector) Given() bool { return *s != DiskSelector{} }

// Mismatch says why a disk is not meant; "" if it is.
func (s *DiskSelector) Mismatch(d Disk) string {
	if s.Size != "" {
		fits, err := compareSize(s.Size, d.Size)
		if err != nil {
			return err.Error()
		}
		if !fits {
			return fmt.Sprintf("its size is %d bytes", d.Size)
		}
	}
	for _, word := range []struct{ name, pattern, have string }{
		{"model", s.Model, d.Model}, {"serial number", s.Serial, d.Serial}, {"WWN", s.WWN, d.WWN}, {"transport", s.Transport, d.Transport},
	} {
		if word.pattern == "" {
			continue
		}
		if !matchesAny(word.pattern, word.have) {
			return fmt.Sprintf("its %s is %q", word.name, word.have)
		}
	}
	if s.Rotational != nil && *s.Rotational != d.Rotational {
		return fmt.Sprintf("rotational is %v", d.Rotational)
	}
	return ""
}

var sizePattern = regexp.MustCompile(`^\s*(==|>=|<=|>|<)?\s*([0-9]{1,15})\s*([KMGTP]i?B|B)?\s*$`)

// units of a size, in bytes.
var units = map[string]uint64{
	"": 1, "B": 1, "KB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12, "PB": 1e15,
	"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40, "PiB": 1 << 50,
}

// alternatives of a pattern.
func alternatives(pattern string) []string {
	all := strings.Split(pattern, "|")
	for i, one := range all {
		all[i] = strings.TrimSpace(one)
	}
	return all
}

// matchesAny compares with patterns that were checked when the config was read.
func matchesAny(pattern, have string) bool {
	return slices.ContainsFunc(alternatives(strings.ToLower(pattern)), func(one string) bool {
		ok, _ := path.Match(one, strings.ToLower(have))
		return ok
	})
}

// compareSize tells whether all bounds of a rule hold.
func compareSize(rule string, size uint64) (bool, error) {
	all := true
	for bound := range strings.SplitSeq(rule, ",") {
		fits, err := compareBound(bound, size)
		if err != nil {
			return false, err
		}
		all = all && fits
	}
	return all, nil
}

func compareBound(rule string, size uint64) (bool, error) {
	match := sizePattern.FindStringSubmatch(rule)
	if match == nil {
		return false, fmt.Errorf(`expected a size such as ">= 100GiB", not %q`, rule)
	}
	number, err := strconv.ParseUint(match[2], 10, 64)
	unit := units[match[3]]
	if err != nil || number > (1<<63)/unit {
		return false, fmt.Errorf("the size %q is larger than any disk", rule)
	}
	want := number * unit
	switch match[1] {
	case ">=":
		return size >= want, nil
	case "<=":
		return size <= want, nil
	case ">":
		return size > want, nil
	case "<":
		return size < want, nil
	}
	return size == want, nil
}

// transports are those that a node can tell.
var transports = []string{"nvme", "sata", "sas", "scsi", "usb", "virtio", "mmc"}

// validate says what is wrong with the selector's fields, by their names.
func (s *DiskSelector) validate(fail func(field, format string, args ...any)) {
	if s.Size != "" {
		if _, err := compareSize(s.Size, 0); err != nil {
			fail("size", "%v", err)
		}
	}
	for field, pattern := range map[string]string{"model": s.Model, "serial": s.Serial, "wwn": s.WWN} {
		for _, one := range alternatives(pattern) {
			if _, err := path.Match(one, ""); err != nil || one == "" && pattern != "" {
				fail(field, "expected words in which * and ? may stand for others, and | between alternatives, not %q", pattern)
				break
			}
		}
	}
	for _, one := range alternatives(s.Transport) {
		if s.Transport != "" && !slices.Contains(transports, one) {
			fail("transport", "expected one of %s, or several with | between them, not %q", strings.Join(transports, ", "), s.Transport)
			break
		}
	}
}
