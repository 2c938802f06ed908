package e2e

import (
	"fmt"
	"strings"
	"testing"
)

// TestCluster is one booted node's life, in order: later steps rely on what
// earlier ones left, and the whole suite on one boot.
func TestCluster(t *testing.T) {
	startCluster(t, clusterName, "--memory", "3072")
	_, _ = fmt.Sscanf(strings.TrimSpace(osctl(t, "node-events")), "%fs", &initTook) // the first event is init's
	for _, step := range []struct {
		name string
		run  func(t *testing.T)
	}{
		{"every must-show command answers", testCommandsAnswer},
		{"processes have no more rights than they need", testLeastPrivilege},
		{"services come before pods when CPU time is short", testServicesComeFirst},
		{"a second bootstrap is refused", testSecondBootstrap},
		{"clients that must be refused", testRefusedClients},
		{"archives that are no images leave nothing", testBadArchives},
		{"images are imported and removed", testImages},
		{"images are pinned", testPinnedImage},
		{"a deployment serves its page by Service name", testDeployment},
		{"names resolve", testNames},
		{"exec", testExec},
		{"logs follow", testLogsFollow},
		{"a StatefulSet keeps its data", testVolumes},
		{"what Kubernetes rejects is told per object", testRejectedManifests},
		{"what does not exist is told with what does", testMissing},
		{"secrets are encrypted at rest", testEncryptionAtRest},
		{"a real kubectl works", testKubectl},
		{"kubectl's verbs are osctl's", testQuickVerbs},
		{"a killed service comes back", testKilledServices},
		{"a full disk keeps the API up", testFullDisk},
		{"a reboot keeps data and workload", testReboot},
		{"volumes are found again, and removed with their claims", testVolumesAfterReboot},
		{"a power cut loses no acknowledged write", testPowerCut},
	} {
		if !t.Run(step.name, step.run) {
			t.Fatal("later steps need this one")
		}
	}
}
