package supervise

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// roles are what this test binary does when a test starts it as a service.
var roles = map[string]func(){
	"run":       func() { fmt.Println("up"); wait() },
	"exit-3":    func() { fmt.Println("leaving"); os.Exit(3) },
	"exit-0":    func() { fmt.Println("done") },
	"stubborn":  func() { signal.Ignore(unix.SIGTERM); fmt.Println("up"); wait() },
	"orphan":    func() { startChild("brief"); os.Exit(0) },
	"brief":     func() { os.Stdin.Read(nil); fmt.Println("brief") },
	"family":    func() { startChild("child"); wait() },
	"child":     func() { fmt.Println("child up"); wait() },
	"open-file": func() { printLimit(); wait() },
}

// wait blocks until a signal ends the process; the deadline is for a test that
// was killed itself.
func wait() {
	select {
	case <-make(chan struct{}):
	case <-time.After(time.Minute):
	}
}

// startChild starts this binary in a role and does not wait for it.
func startChild(role string) {
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = []string{"SUPERVISE_TEST_ROLE=" + role}
	cmd.Stdout = os.Stdout
	// Out of the parent's group, so that only its cgroup holds it.
	cmd.SysProcAttr = &unix.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		fmt.Println(err)
	}
}

func printLimit() {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		fmt.Println(err)
	}
	fmt.Println("limit", limit.Max)
}

func TestMain(m *testing.M) {
	if role, ok := roles[os.Getenv("SUPERVISE_TEST_ROLE")]; ok {
		role()
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// inRole is a service that plays a role.
func inRole(name, role string) Spec {
	return Spec{
		Name: name, Path: "/proc/self/exe", Env: []string{"SUPERVISE_TEST_ROLE=" + role},
		StopTimeout: 5 * time.Second,
	}
}

// newSupervisor makes one that runs services as who the test is, without
// cgroups. It is stopped at the end of the test.
func newSupervisor(t *testing.T, change func(*Options)) *Supervisor {
	t.Helper()
	opts := Options{Log: slog.New(slog.DiscardHandler), KeepIdentity: true, Strict: true}
	if change != nil {
		change(&opts)
	}
	s, err := New(opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := s.StopAll(ctx); err != nil {
			t.Error(err)
		}
	})
	return s
}

// testContext is the deadline of everything a test waits for.
func testContext(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// await waits for a condition on a service's status.
func await(t *testing.T, s *Supervisor, name string, what string, ok func(Status) bool) Status {
	t.Helper()
	ctx := testContext(t)
	for {
		s.mu.Lock()
		status, changed := s.services[name].status, s.changed
		s.mu.Unlock()
		if ok(status) {
			return status
		}
		select {
		case <-changed:
		case <-time.After(20 * time.Millisecond): // messages change unannounced
		case <-ctx.Done():
			t.Fatalf("service %s never was %s; it is %+v", name, what, status)
		}
	}
}

func awaitState(t *testing.T, s *Supervisor, name string, state State) Status {
	t.Helper()
	return await(t, s, name, string(state), func(status Status) bool { return status.State == state })
}

// lines returns the text of a service's log.
func lines(t *testing.T, s *Supervisor, name string) string {
	t.Helper()
	log, err := s.Log(name)
	if err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	_ = log.Read(t.Context(), -1, false, func(line Line) error {
		text.Write(append(line.Text, '\n'))
		return nil
	})
	return text.String()
}

// must fails the test on an error.
func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
