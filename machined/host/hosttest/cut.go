package hosttest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// begun is what a process to be cut prints.
const begun = "begun\n"

// cutDeadline is what all but the running may take, on a slow machine.
const cutDeadline = 5 * time.Minute

// Begin is called by the process that is to be cut, when it begins.
func Begin() { fmt.Print(begun) }

// Cut runs the calling test once more, in a process that has variables in its
// environment and what it mounts for itself. Once that has called Begin it runs for
// so long, or to its end, which is told. It stands still then, while look has a look
// at what is on the disk, and is killed. A process that fails by itself fails the
// test.
func Cut(t *testing.T, after time.Duration, variables []string, look func()) (ended bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), after+cutDeadline)
	defer cancel()
	name, _, _ := strings.Cut(t.Name(), "/")
	cmd := exec.CommandContext(ctx, os.Args[0], "-test.run=^"+name+"$")
	cmd.Env = append(os.Environ(), variables...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	said, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	first := make([]byte, len(begun))
	if _, err := io.ReadFull(said, first); err != nil || string(first) != begun {
		t.Fatalf("it says %q: %v", first, err)
	}
	end := make(chan struct{})
	go func() {
		defer close(end)
		_, _ = io.Copy(io.Discard, said)
	}()
	select {
	case <-time.After(after):
	case <-end:
		ended = true
	}
	// While it stands still, no write can come that waits for another one.
	if err := cmd.Process.Signal(syscall.SIGSTOP); err != nil && !errors.Is(err, os.ErrProcessDone) {
		t.Fatal(err)
	}
	look()
	_ = cmd.Process.Kill() // or it has ended
	if err := cmd.Wait(); err != nil && cmd.ProcessState.Exited() {
		t.Fatalf("it failed by itself: %v", err)
	}
	return ended
}
