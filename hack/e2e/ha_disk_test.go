package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// testEmptyDisk gives a node a new disk: it takes its old member's place.
func testEmptyDisk(t *testing.T, c ha) {
	node := c.others(c.leader(t))[0]
	before, err := members(node)
	if err != nil {
		t.Fatal(err)
	}
	w := startWriter(t, "empty-disk", c.index(c.leader(t)))
	w.more(t, 2)
	if err := c.PowerCut(t.Context(), node); err != nil {
		t.Fatal(err)
	}
	if err := c.EmptyDisk(node); err != nil {
		t.Fatal(err)
	}
	osctl(t, "cluster", "node", "start", node)
	c.whole(t)
	after, err := members(node)
	if err != nil {
		t.Fatal(err)
	}
	if id(before, node) == id(after, node) {
		t.Errorf("%s still has the member of its old disk", node)
	}
	w.more(t, 2)
	foundAgain(t, "empty-disk", w.end())
}

func id(list []member, name string) string {
	for _, one := range list {
		if one.Name == name {
			return one.ID
		}
	}
	return ""
}

// testDrainedReboot reboots the worker: its pods leave before it, and it takes
// new ones after.
func testDrainedReboot(t *testing.T, c ha) {
	if _, err := osctlFor(settleDeadline, []byte(moverManifest), "apply", "-f", "-"); err != nil {
		t.Fatal(err)
	}
	moverOn(t, func(node string) bool { return node == c.worker })
	osctl(t, "-N", c.worker, "reboot", "--wait")
	moverOn(t, func(node string) bool { return node != c.worker })
	eventually(t, "the node takes pods again", func() error {
		out, err := osctlFor(time.Minute, nil, "get", "node", c.worker)
		if err == nil && (strings.Contains(out, "SchedulingDisabled") || !strings.Contains(out, " Ready ")) {
			err = fmt.Errorf("%s", out)
		}
		return err
	})
	osctl(t, "delete", "deployment", "mover")
}

// soaking is set by "make soak": every step, as often as it takes.
var soaking = os.Getenv("KEELSON_SOAK") != ""

// powerCuts is how often all nodes lose their power at once.
func powerCuts() int {
	if soaking {
		return 10
	}
	return 1
}

func testPowerCutsOfAll(t *testing.T, c ha) {
	var names []string
	for round := range powerCuts() {
		w := startWriter(t, fmt.Sprintf("cut-%d", round), round%len(c.controlPlanes))
		w.more(t, 5)
		for _, node := range append(c.controlPlanes, c.worker) {
			if err := c.PowerCut(t.Context(), node); err != nil {
				t.Fatal(err)
			}
		}
		written := w.end()
		names = append(names, written...)
		began := time.Now()
		osctl(t, "cluster", "start", haName, "--no-wait")
		foundAgain(t, fmt.Sprintf("cut-%d", round), written)
		t.Logf("round %d: %d acknowledged writes found %s after the power came back", round+1, len(written), time.Since(began).Round(time.Second))
	}
	c.whole(t)
	for round := range powerCuts() {
		run := fmt.Sprintf("cut-%d", round)
		var of []string
		for _, name := range names {
			if strings.HasPrefix(name, run+"-") {
				of = append(of, name)
			}
		}
		foundAgain(t, run, of)
	}
}

// testRecovery loses everything but a snapshot.
func testRecovery(t *testing.T, c ha) {
	w := startWriter(t, "recovery", 0)
	w.more(t, 3)
	names := w.end()
	file := filepath.Join(t.TempDir(), "etcd.snapshot")
	osctl(t, "-N", c.leader(t), "etcd", "snapshot", file)
	if info, err := os.Stat(file); err != nil || info.Size() == 0 || info.Mode().Perm() != 0o600 {
		t.Fatalf("the snapshot: %v, %v", info, err)
	}
	for _, node := range append(c.controlPlanes, c.worker) {
		if err := c.PowerCut(t.Context(), node); err != nil {
			t.Fatal(err)
		}
		if err := c.EmptyDisk(node); err != nil {
			t.Fatal(err)
		}
	}
	osctl(t, "cluster", "start", haName, "--no-wait")
	whole, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "a truncated snapshot is refused", func() error {
		_, err := osctlFor(time.Minute, nil, "-N", c.controlPlanes[0], "bootstrap", "--recover-from", write(t, "short", whole[:len(whole)/2]))
		if err == nil {
			t.Fatal("a truncated snapshot was taken")
		}
		if !strings.Contains(err.Error(), "truncated") {
			return err
		}
		return nil
	})
	eventually(t, "the snapshot is taken", func() error {
		_, err := osctlFor(settleDeadline, nil, "-N", c.controlPlanes[0], "bootstrap", "--recover-from", file)
		return err
	})
	c.whole(t)
	foundAgain(t, "recovery", names)
}
