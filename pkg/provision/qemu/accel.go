package qemu

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// Accel is how QEMU runs guest code.
type Accel string

// The accelerators that Choose picks from; Auto asks it to decide.
const (
	Auto Accel = "auto"
	KVM  Accel = "kvm"
	TCG  Accel = "tcg"
)

// ParseAccel reads an accelerator's name; "" is Auto.
func ParseAccel(name string) (Accel, error) {
	switch a := Accel(name); a {
	case "":
		return Auto, nil
	case Auto, KVM, TCG:
		return a, nil
	}
	return "", fmt.Errorf("unknown accelerator %q: use %s, %s or %s", name, Auto, KVM, TCG)
}

// How long a probe guest may take; one that runs needs 0.1 s on an idle host.
// KVM is given little, because where it hangs every cluster waits for it;
// emulation works nearly everywhere, so that only a broken QEMU meets its limit.
const (
	kvmTimeout = 2 * time.Second
	tcgTimeout = 20 * time.Second
)

// Choice is what a host can do.
type Choice struct {
	Accel Accel `json:"accel"`
	// Why says why KVM is not used although it could have been.
	Why     string `json:"why,omitempty"`
	Sandbox bool   `json:"sandbox"`
}

// Choose finds out by running tiny guests what really works: a /dev/kvm that
// is there proves nothing. Asked for KVM it fails where KVM does not run;
// asked for Auto it falls back to emulation and says why.
func (p Platform) Choose(ctx context.Context, binary string, want Accel) (Choice, error) {
	if why := p.foreign(); why != "" && want == KVM {
		return Choice{}, fmt.Errorf("KVM does not run guests of another architecture: %s; use %s to emulate", why, TCG)
	}
	choice := Choice{Accel: TCG, Sandbox: true}
	if err := p.runProbe(ctx, binary, TCG, true); err != nil {
		choice.Sandbox = false // some builds lack seccomp
		if err := p.runProbe(ctx, binary, TCG, false); err != nil {
			return Choice{}, fmt.Errorf("%s cannot run a guest even by emulation: %w", binary, err)
		}
	}
	if choice.Why = p.foreign(); choice.Why != "" || want == TCG {
		return choice, nil
	}
	err := p.runProbe(ctx, binary, KVM, choice.Sandbox)
	switch {
	case err == nil:
		choice.Accel = KVM
	case want == KVM:
		return Choice{}, fmt.Errorf("KVM does not run guests here: %w; use %s to emulate", err, TCG)
	default:
		choice.Why = err.Error()
	}
	return choice, nil
}

// runProbe runs the probe guest and returns nil if it said that it ran.
func (p Platform) runProbe(ctx context.Context, binary string, accel Accel, sandboxed bool) error {
	if _, err := os.Stat("/dev/kvm"); accel == KVM && err != nil {
		return fmt.Errorf("find KVM: %w", err)
	}
	image, err := p.probe.open()
	if err != nil {
		return fmt.Errorf("write the probe guest: %w", err)
	}
	defer image.Close()

	timeout := tcgTimeout
	if accel == KVM {
		timeout = kvmTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary, p.probeArgs(accel, sandboxed)...)
	cmd.ExtraFiles = []*os.File{image}
	// A guest that hangs must not outlive a starter that is killed meanwhile.
	// The kernel takes the thread for the starter, so that it must stay.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd.WaitDelay = time.Second // do not wait longer than that for a killed QEMU
	output, err := cmd.CombinedOutput()
	switch {
	case cmd.ProcessState != nil && cmd.ProcessState.ExitCode() == p.probe.exit:
		return nil
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return fmt.Errorf("a guest of a few instructions did not run within %s", timeout)
	case ctx.Err() != nil:
		return ctx.Err()
	}
	return fmt.Errorf("%s (%w)", firstLine(output), err)
}

func firstLine(output []byte) string {
	line, _, _ := strings.Cut(strings.TrimSpace(string(output)), "\n")
	if line == "" {
		return "the probe guest ended without a word"
	}
	return line
}
