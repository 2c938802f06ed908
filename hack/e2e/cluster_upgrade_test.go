package e2e

import (
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestClusterUpgrade updates all nodes of a cluster. "make soak" does it: each of
// them starts twice, and an emulated one takes minutes for that.
func TestClusterUpgrade(t *testing.T) {
	soakOnly(t)
	bundle := filepath.Join(secondBuild(t, "bundle"), "keelson.bundle")
	startCluster(t, "roll", "--boot", "disk", "--control-planes", "1", "--workers", "1", "--memory", "2560", "--worker-memory", "1792",
		"--config-patch", write(t, "calm.yaml", []byte(calm)))
	for _, step := range []struct {
		name string
		run  func(t *testing.T, bundle string)
	}{
		{"a dry run", testPlannedUpgrade},
		{"a disruption budget is kept", testUpgradeKeepsABudget},
		{"all nodes are updated", testRolledUpgrade},
		{"nothing is left to do", testUpgradedAlready},
	} {
		if !t.Run(step.name, func(t *testing.T) { step.run(t, bundle) }) {
			t.Fatal("later steps need this one")
		}
	}
}

func testPlannedUpgrade(t *testing.T, bundle string) {
	plan := osctl(t, "cluster", "upgrade", "--image", bundle, "--dry-run")
	for _, want := range []string{"1 of 2: ", "2 of 2: ", "(build second)"} {
		if !strings.Contains(plan, want) {
			t.Errorf("no %q in the plan:\n%s", want, plan)
		}
	}
	if strings.Contains(osctl(t, "-N", "all", "version"), "build second") {
		t.Error("a dry run has updated a node")
	}
}

// spreadManifest has a pod on each node, of which none may be away.
const spreadManifest = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: spread}
spec:
  replicas: 2
  selector: {matchLabels: {app: spread}}
  strategy: {type: Recreate}
  template:
    metadata: {labels: {app: spread}}
    spec:
      terminationGracePeriodSeconds: 1
      affinity:
        podAntiAffinity:
          requiredDuringSchedulingIgnoredDuringExecution:
          - {topologyKey: kubernetes.io/hostname, labelSelector: {matchLabels: {app: spread}}}
      containers:
      - name: web
        image: ` + sampleImage + `
        imagePullPolicy: Never
        resources: {requests: {cpu: 5m, memory: 8Mi}}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {name: spread}
spec:
  minAvailable: 2
  selector: {matchLabels: {app: spread}}
`

// testUpgradeKeepsABudget: a node whose pods may not be moved stays what it is.
func testUpgradeKeepsABudget(t *testing.T, bundle string) {
	osctl(t, "-N", "all", "image", "import", filepath.Join(artifacts, "sample-web.tar"))
	if _, err := osctlFor(settleDeadline, []byte(spreadManifest), "apply", "-f", "-"); err != nil {
		t.Fatal(err)
	}
	osctl(t, "rollout", "status", "deployment/spread", waitFlag)
	_, err := osctlFor(updateDeadline, nil, "cluster", "upgrade", "--image", bundle, "--drain-timeout", "30s")
	if err == nil {
		t.Fatal("a node was restarted although a disruption budget forbids it")
	}
	for _, want := range []string{"default/spread-", "its disruption budget allows none now", "the update is called off", "not updated yet: "} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("no %q in %v", want, err)
		}
	}
	if versions := osctl(t, "-N", "all", "version"); strings.Contains(versions, "build second") {
		t.Errorf("a node was updated:\n%s", versions)
	}
	if nodes := osctl(t, "get", "nodes"); strings.Contains(nodes, "SchedulingDisabled") {
		t.Errorf("a node that stays takes no pods:\n%s", nodes)
	}
	osctl(t, "delete", "pdb/spread")
}

func testRolledUpgrade(t *testing.T, bundle string) {
	out, err := osctlFor(2*updateDeadline, nil, "cluster", "upgrade", "--image", bundle)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out, "every node that has slots runs ") {
		t.Errorf("it says\n%s", out)
	}
	for _, node := range nodes(t) {
		if version := osctl(t, "-N", node, "version"); !regexp.MustCompile(`image +v\S+ \(build second\)\n`).MatchString(version) {
			t.Errorf("%s was not updated:\n%s", node, version)
		}
	}
	osctl(t, "rollout", "status", "deployment/spread", waitFlag)
	if nodes := osctl(t, "get", "nodes"); strings.Contains(nodes, "SchedulingDisabled") {
		t.Errorf("an updated node takes no pods:\n%s", nodes)
	}
}

func testUpgradedAlready(t *testing.T, bundle string) {
	if plan := osctl(t, "cluster", "upgrade", "--image", bundle); strings.Count(plan, "stays") != 2 {
		t.Errorf("it says\n%s", plan)
	}
}
