package e2e

import (
	"bytes"
	"crypto/ed25519"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/keelson-os/keelson/pkg/osbundle"
	"github.com/keelson-os/keelson/pkg/osdisk"
	"github.com/keelson-os/keelson/pkg/version"
)

const (
	installedCluster = "installed"
	// updateDeadline is what an update may take to be found good, or given up after
	// three boots.
	updateDeadline = 30 * time.Minute
)

// TestInstallAndUpdate installs a node from the ISO image and lives on with it:
// each step finds the node as the one before left it.
func TestInstallAndUpdate(t *testing.T) {
	patch := write(t, "patch.yaml", []byte("apiVersion: keelson/v1\nkind: Machine\nkernel: {sysctls: {kernel.kexec_load_disabled: \"0\"}}\n"))
	startCluster(t, installedCluster, "--boot", "iso", "--memory", "3072", "--config-patch", patch)
	for _, step := range []struct {
		name string
		run  func(t *testing.T)
		soak bool
	}{
		{name: "it runs from its disk", run: testRunsFromDisk},
		{name: "a workload is started", run: testSomethingRuns},
		{name: "its only image rots", run: testRepair, soak: true},
		{name: "bundles that are refused", run: testBadBundles},
		{name: "power cuts during an update", run: testPowerCutsDuringUpdate},
		{name: "an image that panics is given up", run: testPanickingUpdate},
		{name: "the next update is good, and keeps the workload", run: testGoodUpdate},
		{name: "a rollback by hand", run: testRollback},
		{name: "a root image that rots is given up", run: testRottenRoot},
		{name: "an image that is never healthy is given up", run: testUnhealthyUpdate, soak: true},
		{name: "an image that hangs is given up", run: testHangingUpdate, soak: true},
		{name: "the update after these is good", run: testNextUpdate, soak: true},
		{name: "a restart without the firmware", run: testKexec, soak: true},
		{name: "a root image that rots where services are", run: testRottenServices, soak: true},
		{name: "a reset", run: testReset, soak: true},
	} {
		if step.soak && !soaking && existing == "" {
			continue
		}
		if !t.Run(step.name, step.run) {
			t.Fatal("later steps need this one")
		}
	}
}

// testKexec restarts the node from kernel to kernel: the firmware, which writes to
// the same console, has nothing to say.
func testKexec(t *testing.T) {
	before := len(consoleOf(t, installedCluster))
	osctl(t, "reboot", "--kexec", "--wait")
	osctl(t, "health", "--wait", "--timeout", bootDeadline.String())
	text := consoleOf(t, installedCluster)[before:]
	if !strings.Contains(text, "phase storage done") || strings.Contains(text, "BdsDxe") {
		t.Errorf("the console of the restart:\n%s", tail(text))
	}
	versionTells(t, `slot +`+runningSlot(t)+`\n`)
}

func testRunsFromDisk(t *testing.T) {
	versionTells(t, `slot +a\n`)
	if out := osctl(t, "node-events"); !strings.Contains(out, "from the partition STATE") {
		t.Errorf("the config does not come from the disk:\n%s", out)
	}
}

// runningSlot is the letter of the slot that the node runs from.
func runningSlot(t *testing.T) string {
	t.Helper()
	match := regexp.MustCompile(`slot +([ab])\b`).FindStringSubmatch(osctl(t, "version"))
	if match == nil {
		t.Fatal("the node does not tell which slot it runs from")
	}
	return match[1]
}

// versionTells checks what osctl version shows of the node.
func versionTells(t *testing.T, patterns ...string) string {
	t.Helper()
	out := osctl(t, "version")
	for _, pattern := range patterns {
		if !regexp.MustCompile(pattern).MatchString(out) {
			t.Errorf("no %q in:\n%s", pattern, out)
		}
	}
	return out
}

func testSomethingRuns(t *testing.T) {
	osctl(t, "image", "import", filepath.Join(artifacts, "sample-web.tar"))
	osctl(t, "apply", "-f", "../sample/sample-web.yaml")
	osctl(t, "wait", "deployment/sample-web", "--for", "condition=Available", "--timeout", settleDeadline.String())
}

// secondBuild makes the build that machines are updated to.
func secondBuild(t *testing.T, target string, flags ...string) string {
	t.Helper()
	return build(t, "second", target, append([]string{"-build-id", "second"}, flags...)...)
}

// build makes another build of the image in a folder beside the first, of which it
// uses all that does not differ.
func build(t *testing.T, folder, target string, flags ...string) string {
	t.Helper()
	return buildWith(t, os.Environ(), folder, target, flags...)
}

// buildWith is build with another environment.
func buildWith(t *testing.T, environment []string, folder, target string, flags ...string) string {
	t.Helper()
	out := filepath.Join(artifacts, folder)
	args := append([]string{"run", "../../images", "-out", out, "-from", artifacts}, flags...)
	cmd := exec.Command("go", append(args, target)...)
	cmd.Env = environment
	if printed, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, printed)
	}
	return out
}

func updateKey(t *testing.T) ed25519.PrivateKey {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(artifacts, "keys", "update.key"))
	if err != nil {
		t.Fatal(err)
	}
	key, err := osbundle.ParsePrivateKey(text)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// writeBundle makes a bundle of the second build with another kernel image.
func writeBundle(t *testing.T, manifest osbundle.Manifest, kernel string, key ed25519.PrivateKey) string {
	t.Helper()
	second := filepath.Join(artifacts, "second")
	var b bytes.Buffer
	files := map[string]string{
		osbundle.Loader: filepath.Join(second, "build/packages/systemd-boot-efi/usr/lib/systemd/boot/efi/systemd-bootx64.efi"),
		osbundle.Kernel: kernel, osbundle.Root: filepath.Join(second, "rootfs.img"),
	}
	if err := osbundle.Write(&b, manifest, files, key, time.Unix(0, 0)); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "bad.bundle")
	if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// otherBundle makes a bundle whose kernel has more arguments.
func otherBundle(t *testing.T, name string, arguments ...string) string {
	t.Helper()
	var flags []string
	for _, argument := range arguments {
		flags = append(flags, "-kernel-arg", argument)
	}
	out := secondBuild(t, "uki", flags...)
	return writeBundle(t, osbundle.Manifest{Version: version.Version, Build: name, Architecture: "amd64"}, filepath.Join(out, "keelson.efi"), updateKey(t))
}

func testBadBundles(t *testing.T) {
	out := secondBuild(t, "bundle")
	kernel := filepath.Join(out, "keelson.efi")
	good := osbundle.Manifest{Version: version.Version, Architecture: "amd64"}
	_, stranger, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(filepath.Join(out, "keelson.bundle"))
	if err != nil {
		t.Fatal(err)
	}
	truncated := filepath.Join(t.TempDir(), "truncated")
	if err := os.WriteFile(truncated, whole[:len(whole)/2], 0o600); err != nil {
		t.Fatal(err)
	}
	for want, file := range map[string]string{
		"is not signed by any key":   writeBundle(t, good, kernel, stranger),
		"this is no OS bundle":       kernel,
		"ends within its rootfs.img": truncated,
		"the bundle is for arm64":    writeBundle(t, osbundle.Manifest{Version: version.Version, Architecture: "arm64"}, kernel, updateKey(t)),
		"older than":                 writeBundle(t, osbundle.Manifest{Version: "v1.36.9", Architecture: "amd64"}, kernel, updateKey(t)),
		"more than one minor":        writeBundle(t, osbundle.Manifest{Version: "v1.39.0", Architecture: "amd64"}, kernel, updateKey(t)),
	} {
		osctlFails(t, []string{want}, "upgrade", "--image", file)
	}
	osctlFails(t, []string{"the other slot is empty"}, "rollback")
	if out := versionTells(t, `slot +a\n`); strings.Contains(out, "last update") {
		t.Errorf("something was left of what was refused:\n%s", out)
	}
}

// update has an image booted and waits until it is good.
func update(t *testing.T, bundle string) {
	t.Helper()
	out, err := osctlFor(updateDeadline, nil, "upgrade", "--image", bundle, "--wait")
	if err != nil {
		t.Fatal(err)
	}
	t.Log(strings.TrimSpace(out))
}

func testGoodUpdate(t *testing.T) {
	update(t, filepath.Join(artifacts, "second", "keelson.bundle"))
	versionTells(t, `image +v\S+ \(build second\)\n`, `last update .*: good\n`)
	osctl(t, "wait", "deployment/sample-web", "--for", "condition=Available", "--timeout", settleDeadline.String())
}

// failingUpdate has an image booted that does not work, and waits until the node
// is back.
func failingUpdate(t *testing.T, bundle, why string) {
	t.Helper()
	osctl(t, "health", "--wait", "--timeout", bootDeadline.String())
	slot := runningSlot(t)
	out, err := osctlFor(updateDeadline, nil, "upgrade", "--image", bundle, "--wait")
	if err == nil {
		t.Fatalf("an image that cannot work was found good: %s", out)
	}
	versionTells(t, `slot +`+slot+`\n`, `last update .*: failed: .*`+why)
	if events := osctl(t, "node-events"); !strings.Contains(events, "failed, this is") {
		t.Errorf("the events do not tell of it:\n%s", events)
	}
}

func testPanickingUpdate(t *testing.T) {
	failingUpdate(t, otherBundle(t, "panics", "rdinit=/none"), "in 3 boots it did not get as far as its first program")
}

func testUnhealthyUpdate(t *testing.T) {
	// No service starts where its memory cannot be limited: not even the API.
	failingUpdate(t, otherBundle(t, "sick", "cgroup_disable=memory", "keelson.probation=4m"), "memory.max")
}

// testHangingUpdate updates to an image whose process 1 stops in the middle of the
// boot: nothing but the watchdog ends that.
func testHangingUpdate(t *testing.T) {
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	overlay, err := json.Marshal(map[string]any{"Replace": map[string]string{
		filepath.Join(root, "machined/hang.go"): filepath.Join(root, "hack/e2e/testdata/hang/hang.go"),
	}})
	if err != nil {
		t.Fatal(err)
	}
	flags := os.Getenv("GOFLAGS") + " -overlay=" + write(t, "overlay.json", overlay)
	out := buildWith(t, append(os.Environ(), "GOFLAGS="+flags), "hangs", "bundle", "-build-id", "hangs")
	failingUpdate(t, filepath.Join(out, "keelson.bundle"), "it was not healthy in 3 boots; .*hung")
}

// testNextUpdate is not hindered by what failed before.
func testNextUpdate(t *testing.T) {
	osctl(t, "health", "--wait", "--timeout", bootDeadline.String())
	update(t, otherBundle(t, "next", "keelson.probation=30m"))
	versionTells(t, `last update .*: good\n`)
}

// testRollback goes back to the image before, by hand.
func testRollback(t *testing.T) {
	before := osdisk.Slot(runningSlot(t))
	osctl(t, "rollback", "--wait")
	versionTells(t, `slot +`+string(before.Other())+`\n`, `last update .*: undone\n`)
}

// testReset takes everything from the node but its image. It finds its config again
// where it had it from, and begins anew.
func testReset(t *testing.T) {
	slot := runningSlot(t)
	osctlFails(t, []string{"the only copy of the cluster's data"}, "reset", "--yes")
	osctl(t, "reset", "--force", "--yes")
	eventually(t, "the node waits for its cluster", func() error {
		_, err := osctlFor(time.Minute, nil, "bootstrap")
		return err
	})
	osctl(t, "health", "--wait", "--timeout", bootDeadline.String())
	versionTells(t, `slot +`+slot+`\n`)
	osctlFails(t, []string{"not found"}, "get", "deployment", "sample-web")
}
