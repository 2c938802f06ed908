package provision

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// deadline bounds every wait of a test; only a broken one meets it.
const deadline = 30 * time.Second

// The test binary is also the programs that a cluster consists of.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case "run-network":
			exit(RunNetwork(context.Background(), os.Args[2]))
		case "run-qemu":
			exit(fakeQEMU(os.Args[2:]))
		case "create-and-hang":
			exit(createAndHang(os.Args[2]))
		}
	}
	os.Exit(m.Run())
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// fakeQEMU does what the provisioner relies on in QEMU, and runs no guest.
func fakeQEMU(args []string) error {
	options := map[string]string{}
	for i := 0; i+1 < len(args); i += 2 {
		options[args[i]+" "+strings.SplitN(args[i+1], ",", 2)[0]] = args[i+1]
	}
	switch {
	case args[0] == "-version":
		fmt.Println("QEMU emulator version 7.2.0")
		return nil
	case strings.Contains(strings.Join(args, " "), "isa-debug-exit"):
		os.Exit(33) // the probe guest says that it ran
	case os.Getenv("FAKE_QEMU_FAILS") != "":
		return fmt.Errorf("fake QEMU does not like its arguments")
	}
	console, err := os.OpenFile(after(strings.Join(args, " "), "append=on,path="), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	fmt.Fprintln(console, "booted")
	guest, err := listen(after(strings.Join(args, " "), "addr.path="))
	if err != nil {
		return err
	}
	go acceptAll(guest, func(conn net.Conn) { _, _ = conn.Read(make([]byte, 1)) }) // until the network hangs up
	monitor, err := listen(after(strings.Join(args, " "), "wait=off,path="))
	if err != nil {
		return err
	}
	fakeMonitor(monitor)
	return nil
}

// after returns what follows a marker up to the next space.
func after(s, marker string) string {
	_, rest, _ := strings.Cut(s, marker)
	value, _, _ := strings.Cut(rest, " ")
	return value
}

func listen(path string) (net.Listener, error) {
	if err := os.RemoveAll(path); err != nil {
		return nil, err
	}
	return net.Listen("unix", path)
}

func acceptAll(listener net.Listener, serve func(net.Conn)) {
	for {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		serve(conn)
		conn.Close()
	}
}

// fakeMonitor speaks enough QMP, one session at a time like QEMU.
func fakeMonitor(listener net.Listener) {
	state := "running"
	acceptAll(listener, func(conn net.Conn) {
		fmt.Fprintln(conn, `{"QMP": {}}`)
		requests := json.NewDecoder(conn)
		for {
			var request struct{ Execute string }
			if requests.Decode(&request) != nil {
				return
			}
			switch request.Execute {
			case "stop":
				state = "paused"
			case "cont":
				state = "running"
			}
			fmt.Fprintf(conn, `{"return": {"status": %q}}`+"\n", state)
		}
	})
}

// world gives a test its own state folder, runtime folder and artefacts, and
// fake QEMU in PATH.
type world struct{ artifacts, runtime string }

func newWorld(t *testing.T) world {
	t.Helper()
	w := world{artifacts: t.TempDir()}
	var err error
	if w.runtime, err = os.MkdirTemp("/tmp", "kt"); err != nil { // t.TempDir is too long for sockets
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(w.runtime) })
	t.Setenv("XDG_RUNTIME_DIR", w.runtime)
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	for _, name := range []string{kernelFile, initrdFile, rootFile} {
		w.write(t, name, []byte("fake"))
	}
	w.write(t, rootHashFile, []byte("abcdef\n"))
	return w
}

func (w world) write(t *testing.T, name string, data []byte) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(w.artifacts, name), data, 0o600); err != nil {
		t.Fatal(err)
	}
}

func useFakeQEMU(t *testing.T) {
	t.Helper()
	bin := t.TempDir()
	script := fmt.Sprintf("#!/bin/sh\nexec %s run-qemu \"$@\"\n", self(t))
	if err := os.WriteFile(filepath.Join(bin, "qemu-system-x86_64"), []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
}

func self(t *testing.T) string {
	t.Helper()
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func testOptions(artifacts, self string) Options {
	return Options{
		Name:           "demo",
		Artifacts:      artifacts,
		Arch:           "amd64",
		Accel:          "tcg",
		NetworkCommand: []string{self, "run-network"},
		Nodes: []Node{
			{Name: "cp-1", ControlPlane: true, Config: []byte("kind: Machine\n")},
			{Name: "w-1"},
		},
	}
}

// create makes a cluster for the test's time.
func (w world) create(t *testing.T, change func(*Options)) *Cluster {
	t.Helper()
	opts := testOptions(w.artifacts, self(t))
	if change != nil {
		change(&opts)
	}
	t.Cleanup(func() {
		if err := Destroy(context.WithoutCancel(t.Context()), opts.Name); err != nil {
			t.Error(err)
		}
	})
	c, err := Create(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// eventually waits for a named condition.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	late := time.After(deadline)
	for !holds() {
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("still not true: %s", what)
		}
	}
}
