package qemu

import (
	"context"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// realQEMU skips the test where there is none.
func realQEMU(t *testing.T, p Platform) string {
	t.Helper()
	binary, err := p.Find(t.Context())
	if err != nil {
		t.Skip(err)
	}
	return binary
}

func TestEmulationRunsTheProbe(t *testing.T) {
	for arch := range platforms {
		t.Run(arch, func(t *testing.T) {
			p := platform(t, arch)
			choice, err := p.Choose(t.Context(), realQEMU(t, p), TCG)
			if err != nil {
				t.Fatal(err)
			}
			if choice.Accel != TCG {
				t.Errorf("accelerator %s, want %s", choice.Accel, TCG)
			}
		})
	}
}

func TestKVMIsForTheHostsArchitecture(t *testing.T) {
	foreign := platforms["arm64"]
	foreign.Arch = "riscv64" // no host here has it
	foreign.probe.exit = 33
	binary := fakeQEMU(t, "exit 33")
	choice, err := foreign.Choose(t.Context(), binary, Auto)
	if err != nil || choice.Accel != TCG || !strings.Contains(choice.Why, "riscv64") {
		t.Errorf("choice %+v, error %v", choice, err)
	}
	if _, err := foreign.Choose(t.Context(), binary, KVM); err == nil || !strings.Contains(err.Error(), "another architecture") {
		t.Errorf("error %v", err)
	}
}

// Whether KVM works depends on the host; that the answer comes does not.
func TestChooseAnswersInTime(t *testing.T) {
	binary := realQEMU(t, amd64(t))
	ctx, cancel := context.WithTimeout(t.Context(), tcgTimeout)
	defer cancel()
	choice, err := amd64(t).Choose(ctx, binary, Auto)
	if err != nil {
		t.Fatal(err)
	}
	if choice.Accel == TCG && choice.Why == "" {
		t.Error("KVM is not used and nobody says why")
	}
	t.Logf("%+v", choice)
}

// fakeQEMU is a program that behaves as badly as the script says.
func fakeQEMU(t *testing.T, script string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "qemu")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+script), 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestChoose(t *testing.T) {
	if _, err := os.Stat("/dev/kvm"); err != nil {
		t.Skip("the fakes stand behind a /dev/kvm:", err)
	}
	own := platform(t, runtime.GOARCH) // another one is never run by KVM
	const (
		runs       = `exit 33`
		kvmHangs   = `case "$*" in *kvm*) exec sleep 1000;; esac; exit 33`
		kvmCrashes = `case "$*" in *kvm*) echo "failed to set MSR" >&2; kill -ABRT $$;; esac; exit 33`
		noSandbox  = `case "$*" in *-sandbox*) echo "no seccomp" >&2; exit 1;; esac; exit 33`
		broken     = `echo "no ROMs" >&2; exit 1`
	)
	tests := map[string]struct {
		script  string
		want    Accel
		accel   Accel // "": an error
		sandbox bool
		says    string // part of Why or of the error
	}{
		"KVM works":             {runs, Auto, KVM, true, ""},
		"emulation wished":      {runs, TCG, TCG, true, ""},
		"KVM hangs":             {kvmHangs, Auto, TCG, true, "did not run within"},
		"KVM hangs, wished":     {kvmHangs, KVM, "", false, "did not run within"},
		"KVM crashes":           {kvmCrashes, Auto, TCG, true, "failed to set MSR"},
		"no sandbox":            {noSandbox, Auto, KVM, false, ""},
		"nothing works at all":  {broken, Auto, "", false, "no ROMs"},
		"nothing works for KVM": {broken, KVM, "", false, "no ROMs"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			choice, err := own.Choose(t.Context(), fakeQEMU(t, test.script), test.want)
			said := choice.Why
			if err != nil {
				said = err.Error()
			}
			if choice.Accel != test.accel || choice.Sandbox != test.sandbox || !strings.Contains(said, test.says) {
				t.Errorf("choice %+v, error %v; want %s, sandbox %v, saying %q", choice, err, test.accel, test.sandbox, test.says)
			}
		})
	}
}
