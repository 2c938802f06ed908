package shop

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"
)

const (
	inside  = "KEELSON_TEST_SHOP"   // set in the process that has namespaces of its own
	workDir = "KEELSON_TEST_FOLDER" // where that process may leave files
)

// inNamespaces runs the calling test again in a process with mounts, processes
// and a loopback network of its own, and tells whether the caller is that
// process. Whatever it starts and mounts ends with it.
func inNamespaces(t *testing.T) bool {
	t.Helper()
	if os.Getenv(inside) == t.Name() {
		// Or the mounts would be this machine's, too.
		if err := syscall.Mount("none", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
			t.Fatal(err)
		}
		loopback, err := netlink.LinkByName("lo")
		if err != nil {
			t.Fatal(err)
		}
		if err := netlink.LinkSetUp(loopback); err != nil {
			t.Fatal(err)
		}
		return true
	}
	if os.Getuid() != 0 {
		t.Skip("only root can run containers as users of their own")
	}
	if _, err := os.Stat(archive()); err != nil {
		t.Skipf("%v: \"make shop\" builds it, and \"make test\" names its folder in KEELSON_ARTIFACTS", err)
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), inside+"="+t.Name(), workDir+"="+t.TempDir())
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS | syscall.CLONE_NEWPID}
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	if err := cmd.Start(); err != nil {
		t.Skip("no namespaces for tests here: ", err)
	}
	err := cmd.Wait()
	t.Log(output.String())
	if err != nil {
		t.Error(err)
	}
	return false
}

// archive is the archive of the shop's images.
func archive() string {
	if dir := os.Getenv("KEELSON_ARTIFACTS"); dir != "" {
		return filepath.Join(dir, "shop.tar")
	}
	return "../../_out/shop.tar"
}
