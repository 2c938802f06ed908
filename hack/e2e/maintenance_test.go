package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// TestMaintenance boots nodes whose config cannot be used, beside the
// cluster: each says on its console what is wrong, by field and line, stays
// reachable for who has its pairing code, and writes nothing to its disk.
func TestMaintenance(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		config, boot string
		want         []string
	}{
		"none":    {"", "iso", []string{"no machine config", "/dev/vda (8192 MiB, virtio, serial data, rotational): nothing"}},
		"unknown": {"apiVersion: keelson/v1\nkind: Machine\ntype: controlplane\nhostnam: x\n", "direct", []string{":4:", "hostnam", "hostname"}},
	} {
		t.Run(name, func(t *testing.T) {
			cluster := "m-" + name
			args := []string{"cluster", "create", cluster, "--artifacts", artifacts, "--boot", c.boot, "--memory", "1024", "--no-wait"}
			file := write(t, "config.yaml", []byte(c.config))
			args = append(args, "--raw-config", file)
			osctl(t, args...)
			t.Cleanup(func() { osctl(t, "cluster", "destroy", cluster) })

			var text string
			var code, fingerprint []string
			eventually(t, "the console shows the pairing code", func() error {
				text = consoleOf(t, cluster)
				code = regexp.MustCompile(`Pairing code:\s+(\S+)`).FindStringSubmatch(text)
				fingerprint = regexp.MustCompile(`Fingerprint:\s+(\S+)`).FindStringSubmatch(text)
				if code == nil || fingerprint == nil {
					return fmt.Errorf("console so far:\n%s", tail(text))
				}
				return nil
			})
			for _, want := range c.want {
				if !strings.Contains(text, want) {
					t.Errorf("the console says nothing of %q:\n%s", want, tail(text))
				}
			}
			if strings.Contains(text, "phase storage") {
				t.Errorf("the disk was touched:\n%s", tail(text))
			}
			endpoint := regexp.MustCompile(`127\.0\.0\.1:\d+`).FindString(osctl(t, "cluster", "status", cluster))
			paired := []string{"--endpoint", endpoint, "--fingerprint", fingerprint[1], "--pairing-code"}
			eventually(t, "the maintenance API answers", func() error {
				out, err := osctlFor(time.Minute, nil, append([]string{"status"}, append(paired, code[1])...)...)
				if err == nil && !strings.Contains(out, "maintenance") {
					err = fmt.Errorf("status: %s", out)
				}
				return err
			})
			osctlFails(t, []string{"pairing"}, append([]string{"status"}, append(paired, "wrong-code")...)...)
			osctlFails(t, nil, append([]string{"get", "pods"}, append(paired, code[1])...)...)
			if c.boot == "iso" {
				testInstallFromMaintenance(t, cluster, append(paired, code[1]))
			}
		})
	}
}

// testInstallFromMaintenance gives a node without a config one, and sees it start
// from its disk with it.
func testInstallFromMaintenance(t *testing.T, cluster string, paired []string) {
	t.Helper()
	disks := osctl(t, append([]string{"disks"}, paired...)...)
	if !regexp.MustCompile(`/dev/vda +8\.0 GiB +virtio .*nothing`).MatchString(disks) {
		t.Errorf("the disks:\n%s", disks)
	}
	dir := t.TempDir()
	osctl(t, "gen", "config", cluster, "--control-plane", "10.77.0.11", "--output-dir", dir)
	good := filepath.Join(dir, "controlplane.yaml")
	text, err := os.ReadFile(good)
	if err != nil {
		t.Fatal(err)
	}
	for want, bad := range map[string]string{
		`unknown field "tipe"`: strings.Replace(string(text), "type: controlplane", "tipe: controlplane", 1),
		"no disk /dev/sdz":     strings.Replace(string(text), "/dev/vda", "/dev/sdz", 1),
	} {
		osctlFails(t, []string{want}, append([]string{"install", "--config", write(t, "bad.yaml", []byte(bad))}, paired...)...)
	}
	if text := consoleOf(t, cluster); strings.Contains(text, "making the file system") {
		t.Errorf("the disk was touched:\n%s", tail(text))
	}
	osctl(t, append([]string{"install", "--config", good}, paired...)...)
	eventually(t, "the node boots from its disk", func() error {
		if text := consoleOf(t, cluster); !strings.Contains(text, "phase slots done") || !strings.Contains(text, "phase kubernetes done") {
			return fmt.Errorf("console so far:\n%s", tail(text))
		}
		return nil
	})
}

// consoleOf returns what the cluster's first node wrote to its console.
func consoleOf(t *testing.T, cluster string) string {
	t.Helper()
	var text []byte
	_ = filepath.WalkDir(os.Getenv("XDG_STATE_HOME"), func(path string, entry os.DirEntry, err error) error {
		if err == nil && !entry.IsDir() && strings.Contains(path, cluster) && strings.Contains(entry.Name(), "console") {
			text, _ = os.ReadFile(path)
		}
		return nil
	})
	return string(text)
}

func tail(text string) string {
	if len(text) > 4000 {
		return text[len(text)-4000:]
	}
	return text
}
