package flanneld

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// What the environment tells this program to be, instead of the tests.
const (
	asVariable = "KEELSON_TEST_AS"
	asConfined = "confined" // drop all capabilities but CAP_NET_ADMIN, then be the daemon
	asDaemon   = "daemon"
	worldFor   = "world:" // the test of this name, in namespaces of its own
)

func TestMain(m *testing.M) {
	switch os.Getenv(asVariable) {
	case asConfined:
		fmt.Fprintln(os.Stderr, confine())
		os.Exit(1)
	case asDaemon:
		go func() { // ends with the test that holds the other end
			_, _ = io.Copy(io.Discard, os.Stdin)
			os.Exit(1)
		}()
		command := NewCommand()
		command.SetArgs(os.Args[1:])
		if command.Execute() != nil {
			os.Exit(1)
		}
	default:
		os.Exit(m.Run())
	}
}

// confine becomes the daemon with CAP_NET_ADMIN and nothing else, as the
// supervisor starts it on a node.
func confine() error {
	runtime.LockOSThread()
	for capability := range uintptr(unix.CAP_LAST_CAP + 1) {
		if capability != unix.CAP_NET_ADMIN {
			if err := unix.Prctl(unix.PR_CAPBSET_DROP, capability, 0, 0, 0); err != nil {
				return fmt.Errorf("drop capability %d: %w", capability, err)
			}
		}
	}
	// Root's programs would get all of the bounding set back.
	const noRoot = 1<<0 | 1<<1
	if err := unix.Prctl(unix.PR_SET_SECUREBITS, noRoot, 0, 0, 0); err != nil {
		return fmt.Errorf("be no root: %w", err)
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	data := [2]unix.CapUserData{{Effective: 1 << unix.CAP_NET_ADMIN, Permitted: 1 << unix.CAP_NET_ADMIN, Inheritable: 1 << unix.CAP_NET_ADMIN}}
	if err := unix.Capset(&header, &data[0]); err != nil {
		return fmt.Errorf("keep one capability: %w", err)
	}
	if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_RAISE, unix.CAP_NET_ADMIN, 0, 0); err != nil {
		return fmt.Errorf("pass one capability on: %w", err)
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("gain no privileges: %w", err)
	}
	if err := os.Setenv(asVariable, asDaemon); err != nil {
		return err
	}
	return unix.Exec("/proc/self/exe", os.Args, os.Environ())
}

// inWorld runs the calling test in a process of its own, as root of namespaces of
// its own. It tells whether the caller is that process.
func inWorld(t *testing.T) bool {
	t.Helper()
	if os.Getenv(asVariable) == worldFor+t.Name() {
		return true
	}
	if findNFT() == nil {
		t.Skip("no nft here: install nftables, or make image")
	}
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe", "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), asVariable+"="+worldFor+t.Name())
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET,
		UidMappings: []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}},
	}
	output, err := cmd.CombinedOutput()
	if len(output) == 0 && err != nil {
		t.Skip("no namespaces for tests here: ", err)
	}
	t.Log(string(output))
	if err != nil {
		t.Error(err)
	}
	if strings.Contains(string(output), "--- SKIP") {
		t.Skip("skipped in its namespace")
	}
	return false
}

// findNFT returns the environment that lets the daemon run nft: the system's, or
// the one that the image is built with. It is nil when there is none.
func findNFT() []string {
	if path, err := exec.LookPath("nft"); err == nil {
		return []string{"PATH=" + filepath.Dir(path)}
	}
	const packages = "../../../../_out/build/packages"
	path, err := filepath.Abs(packages + "/nftables/usr/sbin")
	if err != nil {
		return nil
	}
	cmd := exec.Command(path+"/nft", "--version")
	libraries, _ := filepath.Glob(filepath.Join(path, "../../..", "*/usr/lib/x86_64-linux-gnu"))
	cmd.Env = []string{"LD_LIBRARY_PATH=" + strings.Join(libraries, ":")}
	if cmd.Run() != nil {
		return nil
	}
	return append(cmd.Env, "PATH="+path)
}
