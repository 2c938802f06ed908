package provision

import (
	"bufio"
	"fmt"
	"os"
	"strconv"
	"strings"
)

// HostMemoryMiB is how much memory the host can give to new machines without
// taking it from its programs: MemAvailable of proc_meminfo(5).
func HostMemoryMiB() (int, error) {
	file, err := os.Open("/proc/meminfo")
	if err != nil {
		return 0, err
	}
	defer file.Close()
	for lines := bufio.NewScanner(file); lines.Scan(); {
		value, found := strings.CutPrefix(lines.Text(), "MemAvailable:")
		if !found {
			continue
		}
		kibibytes, err := strconv.Atoi(strings.TrimSpace(strings.TrimSuffix(value, "kB")))
		if err != nil {
			return 0, fmt.Errorf("read /proc/meminfo: %q: %w", value, err)
		}
		return kibibytes >> 10, nil
	}
	return 0, fmt.Errorf("/proc/meminfo does not tell MemAvailable")
}
