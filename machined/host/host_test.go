package host_test

import (
	"errors"
	"io/fs"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/keelson-os/keelson/machined/host"
	"github.com/keelson-os/keelson/machined/host/hosttest"
)

func TestMountBase(t *testing.T) {
	machine := &hosttest.OS{Fail: map[string]error{
		"MkdirAll":              fs.ErrExist, // the root is read-only: the directories are there
		"Mount devtmpfs":        unix.EBUSY,  // the initramfs moved it here
		"Mount securityfs":      unix.ENODEV,
		"Mount bpf /sys/fs/bpf": unix.EPERM,
	}}
	err := host.MountBase(machine)
	if !errors.Is(err, unix.ENODEV) || !errors.Is(err, unix.EPERM) || errors.Is(err, unix.EBUSY) {
		t.Errorf("error: %v", err)
	}
	var mounts []string
	for _, call := range machine.Calls() {
		if rest, ok := strings.CutPrefix(call, "Mount "); ok {
			mounts = append(mounts, rest)
		}
	}
	for parent, child := range map[string]string{"/dev": "/dev/shm", "/sys": "/sys/fs/cgroup"} {
		at := func(target string) int {
			return slices.IndexFunc(mounts, func(m string) bool { return slices.Contains(strings.Fields(m), target) })
		}
		if at(parent) < 0 || at(child) < at(parent) {
			t.Errorf("%s is not mounted before %s: %v", parent, child, mounts)
		}
	}
	if last := strings.Fields(mounts[len(mounts)-1]); last[0] != "/" {
		t.Errorf("the root is made shared last, not %q", last)
	}
}

func TestSetUpCgroups(t *testing.T) {
	machine := &hosttest.OS{Files: fstest.MapFS{
		"sys/fs/cgroup/cgroup.controllers": {Data: []byte("cpuset cpu memory\n")},
	}}
	if err := host.SetUpCgroups(machine); err != nil {
		t.Fatal(err)
	}
	const write = "WriteControl /sys/fs/cgroup/cgroup.subtree_control "
	if diff := cmp.Diff([]string{write + "+cpuset", write + "+cpu", write + "+memory"}, machine.Calls()); diff != "" {
		t.Error(diff)
	}
	machine = &hosttest.OS{Files: machine.Files, Fail: map[string]error{write + "+cpuset": unix.EINVAL}}
	if err := host.SetUpCgroups(machine); !errors.Is(err, unix.EINVAL) || !strings.Contains(err.Error(), "controller cpuset") {
		t.Errorf("error: %v", err)
	}
	if calls := machine.Calls(); len(calls) != 3 {
		t.Errorf("one refused controller took others with it: %v", calls)
	}
	if err := host.SetUpCgroups(&hosttest.OS{}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("without cgroups: %v", err)
	}
}

func TestApplySysctls(t *testing.T) {
	machine := &hosttest.OS{Fail: map[string]error{
		"WriteControl /proc/sys/net/bridge":                 fs.ErrNotExist,
		"WriteControl /proc/sys/kernel/pid_max":             unix.EINVAL,
		"WriteControl /proc/sys/kernel/kexec_load_disabled": unix.EINVAL,
	}, Files: fstest.MapFS{"proc/sys/kernel/kexec_load_disabled": {Data: []byte("0\n")}, "proc/sys/kernel/pid_max": {Data: []byte("32768\n")}}}
	absent, err := host.ApplySysctls(machine, host.Sysctls(map[string]string{
		"vm.max_map_count":                 "1000000",
		"kernel.kexec_load_disabled":       "0",
		"net.ipv4.conf.eth0/100.rp_filter": "0",
		"../../etc/passwd":                 "x",
	}))
	if !slices.Contains(absent, "net.bridge.bridge-nf-call-iptables") {
		t.Errorf("absent: %v", absent)
	}
	if !errors.Is(err, unix.EINVAL) || !strings.Contains(err.Error(), `set sysctl kernel.pid_max to "4194304"`) ||
		!strings.Contains(err.Error(), "is not a sysctl name") || strings.Contains(err.Error(), "kexec") {
		t.Errorf("error: %v", err)
	}
	calls := strings.Join(machine.Calls(), "\n")
	for _, want := range []string{
		"/proc/sys/vm/max_map_count 1000000",
		"/proc/sys/net/ipv4/conf/eth0.100/rp_filter 0",
		"/proc/sys/kernel/kptr_restrict 2",
	} {
		if !strings.Contains(calls, "WriteControl "+want) {
			t.Errorf("no write of %s", want)
		}
	}
	if strings.Contains(calls, "max_map_count 262144") {
		t.Error("the machine config's value did not replace ours")
	}
}

func TestSysctlNamesAreUnique(t *testing.T) {
	seen := map[string]bool{}
	for _, s := range host.Sysctls(nil) {
		if seen[s.Name] {
			t.Errorf("%s is set twice", s.Name)
		}
		seen[s.Name] = true
	}
}
