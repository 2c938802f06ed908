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

// TestNetworkBoot installs machines over the network, from the boot server that
// osctl netboot serve is, which hands out their configs, too.
func TestNetworkBoot(t *testing.T) {
	t.Parallel()
	for _, boot := range []string{"http", "pxe", "ipxe"} {
		if boot != "http" && !soaking && existing == "" {
			continue // the firmware's other ways take as long again
		}
		t.Run(boot, func(t *testing.T) {
			name := "net-" + boot
			t.Cleanup(func() {
				if t.Failed() {
					t.Log(tail(consoleOf(t, name)))
				}
				osctl(t, "cluster", "destroy", name)
			})
			osctl(t, "cluster", "create", name, "--artifacts", artifacts, "--boot", boot, "--memory", "2048", "--no-wait")
			eventually(t, "the machine is installed, and boots from its disk", func() error {
				out, err := osctlFor(time.Minute, nil, "--context", name, "version")
				if err == nil && !regexp.MustCompile(`slot +a\n`).MatchString(out) {
					err = fmt.Errorf("version: %s", out)
				}
				return err
			})
			log, err := os.ReadFile(filepath.Join(os.Getenv("XDG_STATE_HOME"), "keelson", "clusters", name, "network.log"))
			if err != nil || !strings.Contains(string(log), "a machine is installed, and left to its disk") {
				t.Errorf("the machine has not told the boot server that it is installed: %v\n%s", err, tail(string(log)))
			}
		})
	}
}
