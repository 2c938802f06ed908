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
	for name, c := range map[string]struct {
		config string
		want   []string
	}{
		"none":    {"", []string{"no machine config"}},
		"unknown": {"apiVersion: keelson/v1\nkind: Machine\ntype: controlplane\nhostnam: x\n", []string{":4:", "hostnam", "hostname"}},
	} {
		t.Run(name, func(t *testing.T) {
			cluster := "m-" + name
			args := []string{"cluster", "create", cluster, "--artifacts", artifacts, "--memory", "1024", "--no-wait"}
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
		})
	}
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
