package host

import (
	"bufio"
	"fmt"
	"io"
	"io/fs"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Memory is the node's memory in bytes.
type Memory struct {
	Total     uint64
	Available uint64 // what programs can still get without swapping
}

// CPU is what all CPUs together did since boot.
type CPU struct {
	Busy, Idle      time.Duration
	ContextSwitches uint64
}

// Disk is a file system's size in bytes.
type Disk struct {
	Total     uint64
	Available uint64 // for programs that are not root
}

// ReadMemory reads /proc/meminfo.
func ReadMemory(root fs.FS) (Memory, error) { return readProc(root, "proc/meminfo", parseMeminfo) }

// ReadCPU reads /proc/stat.
func ReadCPU(root fs.FS) (CPU, error) { return readProc(root, "proc/stat", parseStat) }

// ReadDisk asks the file system that holds path.
func ReadDisk(path string) (Disk, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		return Disk{}, fmt.Errorf("ask for the space on %s: %w", path, err)
	}
	return Disk{Total: st.Blocks * uint64(st.Bsize), Available: st.Bavail * uint64(st.Bsize)}, nil
}

func readProc[T any](root fs.FS, name string, parse func(io.Reader) (T, error)) (T, error) {
	f, err := root.Open(name)
	if err != nil {
		var none T
		return none, err
	}
	defer f.Close()
	value, err := parse(f)
	if err != nil {
		return value, fmt.Errorf("read /%s: %w", name, err)
	}
	return value, nil
}

// parseMeminfo reads lines such as "MemTotal:       24689016 kB".
func parseMeminfo(r io.Reader) (Memory, error) {
	var m Memory
	found := map[string]*uint64{"MemTotal:": &m.Total, "MemAvailable:": &m.Available}
	for lines := bufio.NewScanner(r); lines.Scan() && len(found) > 0; {
		words := strings.Fields(lines.Text())
		if len(words) < 2 || found[words[0]] == nil {
			continue
		}
		kib, err := strconv.ParseUint(words[1], 10, 54)
		if err != nil {
			return Memory{}, fmt.Errorf("%s %w", words[0], err)
		}
		*found[words[0]] = kib << 10
		delete(found, words[0])
	}
	if len(found) > 0 {
		return Memory{}, fmt.Errorf("no MemTotal or no MemAvailable")
	}
	return m, nil
}

// tick is the kernel's USER_HZ: 100 on every architecture Go runs on.
const tick = 10 * time.Millisecond

// parseStat reads the "cpu" and "ctxt" lines of /proc/stat, see proc_stat(5).
func parseStat(r io.Reader) (CPU, error) {
	var cpu CPU
	var sawCPU, sawSwitches bool
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20) // the intr line is long
	for lines.Scan() && !(sawCPU && sawSwitches) {
		words := strings.Fields(lines.Text())
		var err error
		switch {
		case len(words) >= 9 && words[0] == "cpu":
			err = cpu.addTicks(words[1:9])
			sawCPU = true
		case len(words) == 2 && words[0] == "ctxt":
			cpu.ContextSwitches, err = strconv.ParseUint(words[1], 10, 64)
			sawSwitches = true
		}
		if err != nil {
			return CPU{}, fmt.Errorf("%s: %w", words[0], err)
		}
	}
	if err := lines.Err(); err != nil {
		return CPU{}, err
	}
	if !sawCPU || !sawSwitches {
		return CPU{}, fmt.Errorf("no cpu or no ctxt line")
	}
	return cpu, nil
}

// addTicks takes user nice system idle iowait irq softirq steal. Guest time,
// which follows, is part of user.
func (c *CPU) addTicks(words []string) error {
	for i, word := range words {
		ticks, err := strconv.ParseUint(word, 10, 39) // 39 bits of ticks are 174 years
		if err != nil {
			return err
		}
		if i == 3 || i == 4 {
			c.Idle += time.Duration(ticks) * tick
		} else {
			c.Busy += time.Duration(ticks) * tick
		}
	}
	return nil
}
