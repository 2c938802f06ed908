package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/keelson-os/keelson/pkg/provision"
)

// testPowerCut cuts the power in the middle of a stream of writes, and finds
// every write again that was acknowledged.
func testPowerCut(t *testing.T) {
	cluster, node := firstNode(t, clusterName)

	ctx, stopWriting := context.WithCancel(t.Context())
	defer stopWriting()
	acknowledged := make(chan []string, 1)
	enough := make(chan struct{})
	go func() {
		var names []string
		defer func() { acknowledged <- names }()
		for n := 0; ctx.Err() == nil; n++ {
			name := fmt.Sprintf("written-%d-%d", time.Now().Unix(), n)
			manifest := "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: " + name + ", labels: {test: power-cut}}\n"
			if _, err := osctlFor(10*time.Second, []byte(manifest), "apply", "-f", "-"); err != nil {
				continue
			}
			if names = append(names, name); len(names) == 10 {
				close(enough)
			}
		}
	}()
	select {
	case <-enough:
	case <-time.After(settleDeadline):
		t.Fatal("ten writes were not acknowledged in time")
	}
	// The writer goes on: the cut comes in the middle of a write.
	if err := cluster.PowerCut(t.Context(), node); err != nil {
		t.Fatal(err)
	}
	stopWriting()
	names := <-acknowledged
	if err := cluster.Start(t.Context(), node); err != nil {
		t.Fatal(err)
	}
	osctl(t, "health", "--wait", "--timeout", bootDeadline.String())
	found := osctl(t, "get", "configmaps", "-l", "test=power-cut", "-o", "name")
	for _, name := range names {
		if !strings.Contains(found, "configmap/"+name+"\n") {
			t.Errorf("the write of %s was acknowledged, and is lost", name)
		}
	}
	osctl(t, "delete", "configmap", "-l", "test=power-cut")
	eventually(t, "the page is served again", pageServed)
}

// firstNode opens a cluster, and names its first node.
func firstNode(t *testing.T, cluster string) (*provision.Cluster, string) {
	t.Helper()
	opened, err := provision.Open(cluster)
	if err != nil {
		t.Fatal(err)
	}
	status, err := opened.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return opened, status.Nodes[0].Name
}

// TestSoak repeats for hours what the other tests do once. It runs with
// "make soak".
func TestSoak(t *testing.T) {
	if !soaking {
		t.Skip("only make soak runs this: it takes hours")
	}
	startCluster(t, clusterName, "--memory", "3072")
	testImages(t)
	testDeployment(t)
	const rounds = 50
	for round := range rounds {
		t.Logf("round %d of %d", round+1, rounds)
		testPowerCut(t)
		testReboot(t)
		testKilledServices(t)
		if t.Failed() {
			t.FailNow()
		}
	}
}
