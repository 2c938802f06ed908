package qemu

import (
	"context"
	"os"
	"os/exec"
	"testing"
	"time"
)

// probeAndDie names the environment variable in which the test binary, run
// again, finds the QEMU that it is to probe.
const probeAndDie = "TEST_PROBE_QEMU"

// A guest that hangs in KVM ends with the program that probes it, also if that
// one is killed.
func TestTheProbeGuestDoesNotOutliveItsStarter(t *testing.T) {
	if binary := os.Getenv(probeAndDie); binary != "" {
		_ = amd64(t).runProbe(context.Background(), binary, TCG, false)
		return
	}
	// The fake guest holds the writing end of a pipe for as long as it lives.
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	binary := fakeQEMU(t, `echo hangs >&9; exec sleep 1000`)
	starter := exec.CommandContext(t.Context(), "/bin/sh", "-c", `exec 9>&1 "$0" -test.run=TestTheProbeGuestDoesNotOutliveItsStarter`, os.Args[0])
	starter.Env = append(os.Environ(), probeAndDie+"="+binary)
	starter.Stdout = writer
	if err := starter.Start(); err != nil {
		t.Fatal(err)
	}
	writer.Close()
	if err := reader.SetReadDeadline(time.Now().Add(tcgTimeout / 2)); err != nil {
		t.Fatal(err)
	}
	said := make([]byte, len("hangs\n"))
	if _, err := reader.Read(said); err != nil {
		t.Fatal(err)
	}
	if err := starter.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = starter.Wait()
	if _, err := reader.Read(said); err == nil || os.IsTimeout(err) {
		t.Errorf("the guest still runs: %v", err)
	}
}
