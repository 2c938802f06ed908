package supervise

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Usage is what a service's cgroup uses.
type Usage struct {
	Memory          uint64        // memory.current, bytes
	MemoryAnonymous uint64        // anon of memory.stat, bytes
	CPU             time.Duration // usage_usec of cpu.stat, since the cgroup was made
}

// cgroup is the directory of one service in the unified (v2) hierarchy.
type cgroup struct{ path string }

// servicesWeight is the cpu.weight of all services together, some ten times that
// of the pods' group, to which kubelet gives about 100 on a machine of one CPU and
// 1,000 on one of 16. Were theirs near it, pods that burn every CPU would leave
// kubelet, containerd and the control plane half of what they need: kubelet then
// took 30 s to tell what pods use. Were it much more, a node whose services have
// too little would start no pod at all.
func servicesWeight(cpus int) int {
	const perCPU, most = 1000, 10000 // the kernel's limit, cgroup-v2.rst
	return min(perCPU*cpus, most)
}

// makeCgroupRoot makes the group that holds the services' groups and hands it
// every controller its parent offers.
func makeCgroupRoot(path string) error {
	if err := os.MkdirAll(path, 0o755); err != nil {
		return fmt.Errorf("make the services' cgroup: %w", err)
	}
	offered, err := os.ReadFile(filepath.Join(path, "cgroup.controllers"))
	if err != nil {
		return fmt.Errorf("read the controllers of %s: %w", path, err)
	}
	for _, controller := range strings.Fields(string(offered)) {
		if err := writeControl(path, "cgroup.subtree_control", "+"+controller); err != nil {
			return fmt.Errorf("enable a cgroup controller: %w", err)
		}
		if controller == "cpu" {
			if err := writeControl(path, "cpu.weight", strconv.Itoa(servicesWeight(runtime.NumCPU()))); err != nil {
				return err
			}
		}
	}
	return nil
}

// makeCgroup makes or reuses a service's group. It stays over restarts, so
// that its figures count from the boot on.
func makeCgroup(root string, spec Spec) (*cgroup, error) {
	group := &cgroup{path: filepath.Join(root, spec.Name)}
	if err := os.Mkdir(group.path, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("make cgroup: %w", err)
	}
	if spec.MemoryMax > 0 {
		if err := writeControl(group.path, "memory.max", strconv.FormatInt(spec.MemoryMax, 10)); err != nil {
			return nil, err
		}
	}
	if spec.CPUWeight > 0 {
		if err := writeControl(group.path, "cpu.weight", strconv.Itoa(spec.CPUWeight)); err != nil {
			return nil, err
		}
	}
	return group, nil
}

// kill ends every process of the group at once (kernel 5.14 and later).
func (g *cgroup) kill() error { return writeControl(g.path, "cgroup.kill", "1") }

// waitEmpty waits until no process of the group lives. The kernel wakes those
// who poll cgroup.events.
func (g *cgroup) waitEmpty(deadline time.Time) {
	events, err := unix.Open(filepath.Join(g.path, "cgroup.events"), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return
	}
	defer unix.Close(events)
	content := make([]byte, 256)
	for {
		n, err := unix.Pread(events, content, 0)
		left := time.Until(deadline)
		if err != nil || flatKey(content[:n], "populated") == 0 || left <= 0 {
			return
		}
		_, _ = unix.Poll([]unix.PollFd{{Fd: int32(events), Events: unix.POLLPRI}}, int(left.Milliseconds())+1)
	}
}

// usage reads the group's figures. Those of a controller that is not enabled
// stay zero.
func (g *cgroup) usage() Usage {
	var usage Usage
	if current, err := os.ReadFile(filepath.Join(g.path, "memory.current")); err == nil {
		usage.Memory, _ = strconv.ParseUint(string(bytes.TrimSpace(current)), 10, 64)
	}
	if stat, err := os.ReadFile(filepath.Join(g.path, "memory.stat")); err == nil {
		usage.MemoryAnonymous = flatKey(stat, "anon")
	}
	if stat, err := os.ReadFile(filepath.Join(g.path, "cpu.stat")); err == nil {
		usage.CPU = time.Duration(flatKey(stat, "usage_usec")) * time.Microsecond
	}
	return usage
}

// starvedShare is from which share of the last minute on, in percent, in which some
// thread of the group waited for a CPU it counts as starved.
const starvedShare = 50

// starved tells whether the group waits for CPU time (its pressure, psi.rst). A
// group that nobody knows of, as there is none in tests, does not.
func (g *cgroup) starved() bool {
	if g == nil {
		return false
	}
	pressure, err := os.ReadFile(filepath.Join(g.path, "cpu.pressure"))
	return err == nil && somePressure(pressure) >= starvedShare
}

// somePressure finds avg60 of the line "some avg10=… avg60=… avg300=… total=…".
func somePressure(file []byte) (percent float64) {
	for line := range strings.Lines(string(file)) {
		fields := strings.Fields(line)
		if len(fields) == 0 || fields[0] != "some" {
			continue
		}
		for _, field := range fields[1:] {
			if value, ok := strings.CutPrefix(field, "avg60="); ok {
				percent, _ = strconv.ParseFloat(value, 64)
				return percent
			}
		}
	}
	return 0
}

// flatKey finds a key in a cgroup file of "KEY VALUE" lines.
func flatKey(file []byte, key string) uint64 {
	for line := range strings.Lines(string(file)) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), " "); ok && name == key {
			number, _ := strconv.ParseUint(value, 10, 64)
			return number
		}
	}
	return 0
}

// writeControl writes an existing control file; it never makes one.
func writeControl(group, file, value string) error {
	control, err := os.OpenFile(filepath.Join(group, file), os.O_WRONLY, 0)
	if err != nil {
		return fmt.Errorf("set %s of %s: %w", file, group, err)
	}
	defer control.Close()
	if _, err := control.WriteString(value); err != nil {
		return fmt.Errorf("set %s of %s to %s: %w", file, group, value, err)
	}
	return nil
}
