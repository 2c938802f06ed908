package supervise

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"

	"golang.org/x/sys/unix"
)

// asRoot skips a test that changes users: unit tests run without root, and
// "make test" runs as root in CI.
func asRoot(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root: it starts processes as other users")
	}
}

// procStatus reads some fields of /proc/PID/status.
func procStatus(t *testing.T, pid int, keys ...string) map[string]string {
	t.Helper()
	file, err := os.Open(fmt.Sprintf("/proc/%d/status", pid))
	must(t, err)
	defer file.Close()
	got := map[string]string{}
	for lines := bufio.NewScanner(file); lines.Scan(); {
		key, value, _ := strings.Cut(lines.Text(), ":")
		for _, want := range keys {
			if key == want {
				got[key] = strings.Join(strings.Fields(value), " ")
			}
		}
	}
	return got
}

func TestPrivileges(t *testing.T) {
	asRoot(t)
	root := fstest.MapFS{
		"etc/passwd": {Data: []byte("root:x:0:0::/root:\nproxy:x:4104:4105::/:\n")},
		"etc/group":  {Data: []byte("extra:x:4106:proxy\n")},
	}
	all := procStatus(t, os.Getpid(), "CapBnd")["CapBnd"]
	bit := func(numbers ...uint) string {
		var mask uint64
		for _, n := range numbers {
			mask |= 1 << n
		}
		return fmt.Sprintf("%016x", mask)
	}
	for name, c := range map[string]struct {
		change func(*Spec)
		want   map[string]string
	}{
		"ordinary": {
			func(s *Spec) { s.User = "proxy" },
			map[string]string{"Uid": "4104 4104 4104 4104", "Gid": "4105 4105 4105 4105", "Groups": "4106",
				"NoNewPrivs": "1", "CapBnd": bit(), "CapEff": bit(), "CapPrm": bit(), "CapAmb": bit()},
		},
		"network": {
			func(s *Spec) {
				s.User, s.Capabilities = "proxy", []string{"CAP_NET_ADMIN", "CAP_NET_BIND_SERVICE"}
			},
			map[string]string{"Uid": "4104 4104 4104 4104", "NoNewPrivs": "1",
				"CapBnd": bit(10, 12), "CapEff": bit(10, 12), "CapPrm": bit(10, 12), "CapAmb": bit(10, 12)},
		},
		"root with one": {
			func(s *Spec) { s.Capabilities = []string{"CAP_KILL"} },
			map[string]string{"Uid": "0 0 0 0", "NoNewPrivs": "1", "CapBnd": bit(5), "CapEff": bit(5)},
		},
		"makes containers": {
			func(s *Spec) { s.AllCapabilities, s.AllowNewPrivs = true, true },
			map[string]string{"Uid": "0 0 0 0", "NoNewPrivs": "0", "CapBnd": all, "CapEff": all},
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSupervisor(t, func(o *Options) { o.KeepIdentity, o.Root = false, root })
			spec := inRole("svc", "run")
			c.change(&spec)
			must(t, s.Add(spec))
			must(t, s.Start(t.Context(), "svc"))
			pid := awaitState(t, s, "svc", Running).PID
			var keys []string
			for key := range c.want {
				keys = append(keys, key)
			}
			for key, got := range procStatus(t, pid, keys...) {
				if got != c.want[key] {
					t.Errorf("%s is %q, want %q", key, got, c.want[key])
				}
			}
		})
	}
	// The threads that were stripped for the children are gone.
	tasks, err := filepath.Glob("/proc/self/task/*")
	must(t, err)
	for _, task := range tasks {
		tid, _ := strconv.Atoi(filepath.Base(task))
		got := procStatus(t, tid, "NoNewPrivs", "CapBnd")
		if len(got) > 0 && (got["NoNewPrivs"] != "0" || got["CapBnd"] != all) {
			t.Errorf("thread %d of this process was left with %v", tid, got)
		}
	}
}

func TestFileLimit(t *testing.T) {
	var before, after unix.Rlimit
	must(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &before))
	s := newSupervisor(t, nil)
	spec := inRole("svc", "open-file")
	spec.NoFile = before.Max // lowering it could not be taken back without CAP_SYS_RESOURCE
	must(t, s.Add(spec))
	must(t, s.Start(t.Context(), "svc"))
	awaitLine(t, s, "svc", fmt.Sprint("limit ", before.Max))
	must(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &after))
	if before != after {
		t.Errorf("this process' limit went from %v to %v", before, after)
	}
}

// cgroupMount finds where cgroup v2 is mounted, alone or beside v1.
func cgroupMount(t *testing.T) string {
	for _, dir := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/unified"} {
		if _, err := os.Stat(dir + "/cgroup.procs"); err == nil {
			return dir
		}
	}
	t.Skip("no cgroup v2 on this machine")
	return ""
}

func TestCgroup(t *testing.T) {
	asRoot(t)
	root := filepath.Join(cgroupMount(t), fmt.Sprintf("keelson-test-%d", os.Getpid()))
	s := newSupervisor(t, func(o *Options) { o.CgroupRoot = root })
	t.Cleanup(func() { // runs before the supervisor's own: stop first
		must(t, s.StopAll(testContext(t)))
		must(t, os.Remove(filepath.Join(root, "svc")))
		must(t, os.Remove(root))
	})
	must(t, s.Add(inRole("svc", "family")))
	must(t, s.Start(t.Context(), "svc"))
	pid := awaitState(t, s, "svc", Running).PID
	group, err := unifiedCgroup(fmt.Sprint(pid))
	must(t, err)
	if !strings.HasSuffix(strings.TrimSpace(string(group)), filepath.Base(root)+"/svc") {
		t.Errorf("the service is in cgroup %s", group)
	}
	// Only the kernel's root group hands the controller down where nobody else has.
	if weight, err := os.ReadFile(filepath.Join(root, "cpu.weight")); err == nil && strings.TrimSpace(string(weight)) != strconv.Itoa(servicesWeight(runtime.NumCPU())) {
		t.Errorf("the services' weight is %s", weight)
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	awaitLine(t, s, "svc", "child up")
	must(t, unix.Kill(pid, unix.SIGKILL))
	awaitState(t, s, "svc", Backoff)
	procs, err := os.ReadFile(filepath.Join(root, "svc", "cgroup.procs"))
	must(t, err)
	if len(procs) != 0 {
		t.Errorf("processes that outlived their service: %s", procs)
	}
	if usage, err := s.Usage("svc"); err != nil || usage.CPU == 0 {
		t.Errorf("usage %+v, %v", usage, err)
	}
}

func TestFlatKey(t *testing.T) {
	root := fstest.MapFS{"memory.stat": {Data: []byte("anon 4096\nanon_thp 7\nfile 12\n")}}
	stat, err := fs.ReadFile(root, "memory.stat")
	must(t, err)
	for key, want := range map[string]uint64{"anon": 4096, "file": 12, "none": 0} {
		if got := flatKey(stat, key); got != want {
			t.Errorf("%s: %d, want %d", key, got, want)
		}
	}
}

func TestReaper(t *testing.T) {
	must(t, unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0))
	reaped := make(chan int, 16)
	reaper := NewReaper(func(pid int) { reaped <- pid })
	reaper.grace /= 20
	ctx, cancel := context.WithCancel(testContext(t))
	ended := make(chan error, 1)
	go func() { ended <- reaper.Run(ctx) }()
	defer func() {
		cancel()
		must(t, <-ended)
		must(t, unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0))
	}()

	s := newSupervisor(t, func(o *Options) { o.Reaper = reaper })
	must(t, s.Add(inRole("parent", "orphan"), inRole("bad", "exit-3")))
	must(t, s.Start(ctx, "parent", "bad"))
	if status := awaitState(t, s, "bad", Backoff); !strings.HasPrefix(status.Message, "exited with status 3") {
		t.Errorf("the exit status was taken away: %q", status.Message)
	}
	// A command of this process' own keeps its status too.
	own := exec.Command("/proc/self/exe")
	own.Env = []string{"SUPERVISE_TEST_ROLE=exit-3"}
	if err := own.Run(); err == nil || err.Error() != "exit status 3" {
		t.Errorf("own command: %v", err)
	}
	select {
	case pid := <-reaped:
		if err := unix.Kill(pid, 0); err == nil {
			t.Errorf("orphan %d is still there", pid)
		}
	case <-ctx.Done():
		t.Fatal("no orphan was reaped")
	}
	must(t, s.StopAll(ctx))
	must(t, reaper.WaitChildless(ctx))
}

// The main thread cannot be thrown away: what runs there is moved off it.
func TestThrowawayThread(t *testing.T) {
	for range 50 {
		must(t, onThrowawayThread(func() error {
			if unix.Gettid() == unix.Getpid() {
				return fmt.Errorf("ran on the main thread")
			}
			return nil
		}))
	}
	err := onThrowawayThread(func() error { panic("bug") })
	if err == nil || !strings.Contains(err.Error(), "panic: bug") {
		t.Errorf("a panic became %v", err)
	}
}
