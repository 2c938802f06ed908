package process

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const deadline = 10 * time.Second

// start runs a shell command for the test's time.
func start(t *testing.T, script string) *Started {
	t.Helper()
	p, err := Start(Command{
		Argv: []string{"/bin/sh", "-c", script},
		Mark: t.Name() + t.TempDir(),
		Log:  filepath.Join(t.TempDir(), "log"),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Kill(deadline); err != nil {
			t.Error(err)
		}
	})
	return p
}

func wantExit(t *testing.T, p *Started) {
	t.Helper()
	select {
	case <-p.Exited:
	case <-time.After(deadline):
		t.Fatal("the process still runs")
	}
}

func TestKill(t *testing.T) {
	p := start(t, "trap '' TERM; exec sleep 1000")
	if !p.Alive() {
		t.Fatal("a running process is not alive")
	}
	if err := p.Kill(deadline); err != nil {
		t.Fatal(err)
	}
	wantExit(t, p)
	if p.Alive() {
		t.Error("alive after Kill")
	}
	if err := p.Kill(deadline); err != nil {
		t.Errorf("second Kill: %v", err)
	}
}

func TestStop(t *testing.T) {
	t.Run("by itself", func(t *testing.T) {
		p := start(t, "exec sleep 1000")
		if err := p.Stop(deadline); err != nil {
			t.Error(err)
		}
		wantExit(t, p)
	})
	t.Run("forced", func(t *testing.T) {
		dir := t.TempDir()
		p := start(t, "trap '' TERM; : > "+dir+"/ready; exec sleep 1000")
		waitForFile(t, filepath.Join(dir, "ready"))
		if err := p.Stop(100 * time.Millisecond); err != nil {
			t.Error(err)
		}
		wantExit(t, p)
	})
}

func waitForFile(t *testing.T, path string) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	late := time.After(deadline)
	for {
		if _, err := os.Stat(path); err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("%s did not appear", path)
		}
	}
}

// A ref whose process is gone must never reach the one that has its pid now.
func TestForeignProcessIsSafe(t *testing.T) {
	p := start(t, "exec sleep 1000")
	for name, change := range map[string]func(*Ref){
		"other start time": func(r *Ref) { r.StartTime-- },
		"other boot":       func(r *Ref) { r.BootID = "before" },
		"never started":    func(r *Ref) { *r = Ref{} },
	} {
		t.Run(name, func(t *testing.T) {
			stale := p.Ref
			change(&stale)
			if stale.Alive() {
				t.Error("the stale ref is alive")
			}
			if err := stale.Kill(deadline); err != nil {
				t.Error(err)
			}
			if err := stale.Stop(deadline); err != nil {
				t.Error(err)
			}
			if !p.Alive() {
				t.Fatal("the foreign process was killed")
			}
		})
	}
}

func TestZombieIsNotAlive(t *testing.T) {
	cmd := exec.Command("/bin/cat") // ends with its input
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait() //nolint:errcheck // reaps
	ref, _, err := refOf(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	stdin.Close()
	if err := ref.Stop(deadline); err != nil {
		t.Error(err)
	}
	if ref.Alive() {
		t.Error("a zombie is alive")
	}
}

func TestFind(t *testing.T) {
	p := start(t, "exec sleep 1000")
	other := start(t, "exec sleep 1000")
	found, err := Find(func(mark string) bool { return strings.HasPrefix(mark, t.Name()) })
	if err != nil {
		t.Fatal(err)
	}
	if len(found) != 2 {
		t.Fatalf("found %v, want %v and %v", found, p.Ref, other.Ref)
	}
	for _, ref := range found {
		if ref != p.Ref && ref != other.Ref {
			t.Errorf("found %v, want %v or %v", ref, p.Ref, other.Ref)
		}
	}
}

func TestStartIsDetached(t *testing.T) {
	dir := t.TempDir()
	p, err := Start(Command{
		Argv: []string{"/bin/sh", "-c", "echo out; echo err >&2; pwd; cut -d' ' -f6 /proc/$$/stat; echo $$"},
		Mark: "x", Log: filepath.Join(dir, "log"),
	})
	if err != nil {
		t.Fatal(err)
	}
	wantExit(t, p)
	log, err := os.ReadFile(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Fields(string(log))
	if len(lines) != 5 || lines[0] != "out" || lines[1] != "err" || lines[2] != "/" {
		t.Fatalf("log %q", log)
	}
	if session, pid := lines[3], lines[4]; session != pid {
		t.Errorf("the process is in session %s, not in its own %s", session, pid)
	}
}

// A lock that a wrapper such as flock(1) holds for us must not be kept by what outlives us.
func TestStartHandsDownNoFiles(t *testing.T) {
	file, err := os.Create(filepath.Join(t.TempDir(), "inherited"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if _, err := unix.FcntlInt(file.Fd(), unix.F_SETFD, 0); err != nil { // as if inherited
		t.Fatal(err)
	}
	p := start(t, "exec sleep 1000")
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", p.PID))
	if err != nil || len(files) == 0 {
		t.Fatalf("open files %v, error %v", files, err)
	}
	for _, link := range files {
		if target, err := os.Readlink(link); err == nil && target == file.Name() {
			t.Errorf("the process has %s open", target)
		}
	}
}

func TestStartMissingProgram(t *testing.T) {
	_, err := Start(Command{Argv: []string{"/no/such/program"}, Log: filepath.Join(t.TempDir(), "log")})
	if err == nil || !strings.Contains(err.Error(), "/no/such/program") {
		t.Errorf("error %v, want one that names the program", err)
	}
}

func TestParseStat(t *testing.T) {
	const tail = " 1 12 12 0 -1 4194560 1 0 0 0 1 2 3 4 20 0 1 0 777 9"
	tests := map[string]struct {
		stat   string
		start  uint64 // 0: an error
		zombie bool
	}{
		"plain":          {"12 (qemu) S" + tail, 777, false},
		"hostile name":   {"12 (a) Z 1) S" + tail, 777, false},
		"zombie":         {"12 (qemu) Z" + tail, 777, true},
		"too short":      {"12 (qemu) S 1 12", 0, false},
		"no parentheses": {"12 qemu S", 0, false},
		"empty":          {"", 0, false},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			start, zombie, err := parseStat([]byte(test.stat))
			if start != test.start || zombie != test.zombie || (err == nil) != (test.start != 0) {
				t.Errorf("start time %d, zombie %v, error %v; want %d, %v", start, zombie, err, test.start, test.zombie)
			}
		})
	}
}
