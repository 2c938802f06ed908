package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// Debian's package ovmf has a key for tests: firmware's variables with it, and both
// of its halves, the private one with a passphrase that everybody knows.
const (
	testVariables   = "/usr/share/OVMF/OVMF_VARS_4M.snakeoil.fd"
	testCertificate = "/usr/share/ovmf/PkKek-1-snakeoil.pem"
	testKey         = "/usr/share/ovmf/PkKek-1-snakeoil.key"
)

// TestSecureBoot installs a machine whose firmware starts only what is signed. That
// takes an image packed anew and another first boot, for which make test has no
// ten minutes; that signatures are whole, it tests among the image's (TestSign).
func TestSecureBoot(t *testing.T) {
	if !soaking && existing == "" {
		t.Skip("only make soak runs this: it builds and boots an image of its own; TestSign checks signatures")
	}
	key := filepath.Join(t.TempDir(), "key.pem")
	if printed, err := exec.Command("openssl", "rsa", "-in", testKey, "-passin", "pass:snakeoil", "-out", key).CombinedOutput(); err != nil {
		t.Fatalf("no key to sign with; install openssl and ovmf (make setup): %v: %s", err, printed)
	}
	keys := []string{"-secure-boot-key", key, "-secure-boot-cert", testCertificate}
	signed := build(t, "secure", "iso", keys...)
	startCluster(t, "secure", "--boot", "iso", "--secure-boot", testVariables, "--artifacts", signed, "--memory", "3072")
	versionTells(t, `secure boot +on\n`, `slot +a\n`)
	// Modules that are not signed stay out, and so does everything else that could
	// change the kernel (kernel_lockdown.7).
	if log := osctl(t, "dmesg"); !regexp.MustCompile(`Kernel is locked down from EFI Secure Boot`).MatchString(log) {
		t.Errorf("the kernel is not locked down:\n%s", tail(log))
	}
	testSomethingRuns(t)

	// Nor is it written to a node that verifies; what the same key signed is.
	osctlFails(t, []string{"Secure Boot is on"}, "upgrade", "--image", filepath.Join(secondBuild(t, "bundle"), "keelson.bundle"))
	next := build(t, "secure-second", "bundle", append([]string{"-build-id", "second"}, keys...)...)
	update(t, filepath.Join(next, "keelson.bundle"))
	versionTells(t, `secure boot +on\n`, `image +v\S+ \(build second\)\n`, `last update .*: good\n`)

	// What nobody signed does not start.
	const name = "unsigned"
	osctl(t, "cluster", "create", name, "--boot", "iso", "--secure-boot", testVariables, "--artifacts", artifacts, "--memory", "1024", "--no-wait")
	t.Cleanup(func() { osctl(t, "cluster", "destroy", name) })
	eventually(t, "the firmware refuses it", func() error {
		if text := consoleOf(t, name); !strings.Contains(text, "No bootable option or device was found") {
			return os.ErrNotExist
		}
		return nil
	})
	if strings.Contains(consoleOf(t, name), "phase ") {
		t.Error("an image that nobody signed has started")
	}
}
