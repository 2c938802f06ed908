package e2e

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// cuts is how often the power is cut during an installation, and during an
// update: KEELSON_CUTS, or else 200 times in make soak, and two in make test,
// which has no hour for it on a machine that emulates.
func cuts(t *testing.T) int {
	t.Helper()
	if text := os.Getenv("KEELSON_CUTS"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	if soaking {
		return 200
	}
	return 2
}

// cutPower cuts the power of a cluster's first node at a random moment, and
// switches it on again.
func cutPower(t *testing.T, name string, within time.Duration) {
	t.Helper()
	cluster, node := firstNode(t, name)
	after := rand.N(within)
	// Nothing is waited for: a plug is pulled at any moment.
	select {
	case <-time.After(after):
	case <-t.Context().Done():
		t.Fatal(t.Context().Err())
	}
	if err := cluster.PowerCut(t.Context(), node); err != nil {
		t.Fatal(err)
	}
	t.Logf("power cut after %s; the console ends with: %s", after.Round(10*time.Millisecond), lastLine(consoleOf(t, name)))
	if err := cluster.Start(t.Context(), node); err != nil {
		t.Fatal(err)
	}
}

func lastLine(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return lines[len(lines)-1]
}

// TestPowerCutsDuringInstall cuts the power of a machine that is being installed,
// again and again, and lets it finish then.
func TestPowerCutsDuringInstall(t *testing.T) {
	t.Parallel()
	const name = "cuts"
	destroy := func() { osctl(t, "cluster", "destroy", name) }
	create := func() {
		osctl(t, "cluster", "create", name, "--artifacts", artifacts, "--boot", "iso", "--memory", "2048", "--no-wait")
	}
	create()
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(tail(consoleOf(t, name)))
		}
		destroy()
	})
	// within is what an installation takes, as far as it is known.
	within := 30 * time.Second
	began := 0 // where this boot's output begins
	installing := func() (started time.Time, booted bool) {
		eventually(t, "the machine installs itself, or boots from its disk", func() error {
			text := consoleOf(t, name)[began:]
			if booted = strings.Contains(text, "phase storage done"); booted {
				return nil
			}
			if !strings.Contains(text, "installing from=") {
				return fmt.Errorf("console of this boot: %s", tail(text))
			}
			return nil
		})
		return time.Now(), booted
	}
	for range cuts(t) {
		started, booted := installing()
		if booted { // it was quicker: another machine
			destroy()
			create()
			began = 0
			started, _ = installing()
		}
		before := len(consoleOf(t, name))
		cutPower(t, name, within)
		if text := consoleOf(t, name)[before:]; strings.Contains(text, "installed; restarting") {
			within = min(within, time.Since(started))
		}
		began = len(consoleOf(t, name))
	}
	eventually(t, "it finishes, and boots from its disk", func() error {
		out, err := osctlFor(time.Minute, nil, "--context", name, "version")
		if err == nil && !regexp.MustCompile(`slot +a\n`).MatchString(out) {
			err = fmt.Errorf("version: %s", out)
		}
		return err
	})
}

// beginUpdate has an update written, and returns when the node writes it. stop ends
// what asked for it.
func beginUpdate(t *testing.T, bundle string) (stop func()) {
	t.Helper()
	before := len(consoleOf(t, installedCluster))
	ctx, cancel := context.WithTimeout(t.Context(), updateDeadline)
	var said bytes.Buffer
	upgrade := exec.CommandContext(ctx, osctlPath, "upgrade", "--image", bundle, "--force")
	upgrade.Stdout, upgrade.Stderr = &said, &said
	if err := upgrade.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- upgrade.Wait() }()
	late := time.After(settleDeadline)
	for !strings.Contains(consoleOf(t, installedCluster)[before:], "writing an update") {
		select {
		case err := <-ended:
			t.Fatalf("the update was not written: %v: %s", err, said.String())
		case <-late:
			t.Fatal("the update is not written")
		case <-time.After(200 * time.Millisecond):
		}
	}
	return func() {
		cancel()
		<-ended // its node went away
	}
}

// testPowerCutsDuringUpdate cuts the power while an update is written, booted or
// on probation: whichever image is booted, the node is what it was.
func testPowerCutsDuringUpdate(t *testing.T) {
	osctl(t, "create", "configmap", "power-cuts", "--from-literal", "kept=yes")
	bundle := otherBundle(t, "cuts", "keelson.probation=30m")
	for range cuts(t) {
		stop := func() {}
		if !strings.Contains(osctl(t, "version"), "probation") { // else what was written is cut short
			stop = beginUpdate(t, bundle)
		}
		cutPower(t, installedCluster, 80*time.Second)
		stop()
		eventually(t, "the node boots a slot", func() error {
			out, err := osctlFor(time.Minute, nil, "version")
			if err == nil && !regexp.MustCompile(`slot +[ab]\b`).MatchString(out) {
				err = fmt.Errorf("version: %s", out)
			}
			return err
		})
	}
	eventually(t, "the cluster's data are there", func() error {
		out, err := osctlFor(time.Minute, nil, "get", "configmap", "power-cuts", "-o", "jsonpath={.data.kept}")
		if err == nil && out != "yes" {
			err = fmt.Errorf("the cluster's data: %q", out)
		}
		return err
	})
	if strings.Contains(osctl(t, "version"), "probation") {
		osctl(t, "health", "--wait", "--timeout", bootDeadline.String())
	}
	eventually(t, "what is booted is on probation no more", func() error {
		if out := osctl(t, "version"); strings.Contains(out, "probation") {
			return fmt.Errorf("version: %s", out)
		}
		return nil
	})
	osctl(t, "delete", "configmap", "power-cuts")
}
