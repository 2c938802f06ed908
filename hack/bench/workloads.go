package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/keelson-os/keelson/pkg/api/workload"
	"github.com/keelson-os/keelson/pkg/client"
)

const (
	workloadsCluster   = "bench-work"
	workloadsNamespace = "keelson-bench"
	// listedPods are the pods of the list that is timed. They ask for a node that
	// does not exist: what is measured is the list.
	listedPods = 1000
	// listedBatch is how many of them are created with one call.
	listedBatch = 100
	// startRuns and listRuns are how often a program is timed.
	startRuns, listRuns = 20, 10
	// singleRounds is how often a single pod is started; batches are started once.
	singleRounds = 10
)

// podBatches are how many pods are started at once.
var podBatches = []int{1, 10, 50}

// Workloads is how fast work gets going on a one-node cluster, and how fast
// clients answer, beside kubectl in the same run.
type Workloads struct {
	PodStarts []PodStart `json:"podStarts"`
	// The medians of starting a program that prints its version.
	OsctlStartSeconds   float64 `json:"osctlStartSeconds"`
	KubectlStartSeconds float64 `json:"kubectlStartSeconds"`
	// The medians of listing 1,000 pods as a table, and of the API's own share.
	OsctlListSeconds   float64 `json:"osctlListSeconds"`
	KubectlListSeconds float64 `json:"kubectlListSeconds"`
	APIListSeconds     float64 `json:"apiListSeconds"`
}

// PodStart is the time from the request that creates pods, whose image is on the
// node, until each of them is ready.
type PodStart struct {
	Pods       int     `json:"pods"`
	P50Seconds float64 `json:"p50Seconds"`
	P99Seconds float64 `json:"p99Seconds"`
}

// measureWorkloadsAlone measures on a one-node cluster of its own.
func measureWorkloadsAlone(ctx context.Context, artifacts string, memory int) (*Workloads, error) {
	end, err := ownCluster(ctx, workloadsCluster)
	if err != nil {
		return nil, err
	}
	defer end()
	if err := osctl(ctx, "cluster", "create", workloadsCluster, "--artifacts", artifacts, "--memory", fmt.Sprint(memory)); err != nil {
		return nil, err
	}
	return measureWorkloads(ctx, artifacts)
}

// measureWorkloads measures on the cluster of the current context.
func measureWorkloads(ctx context.Context, artifacts string) (_ *Workloads, err error) {
	dir, err := os.MkdirTemp("", "keelson-bench-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	kubectl, kubeconfig := filepath.Join(dir, "kubectl"), filepath.Join(dir, "kubeconfig")
	if out, err := exec.CommandContext(ctx, "go", "build", "-o", kubectl, "-ldflags=-s -w", "k8s.io/kubernetes/cmd/kubectl").CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build kubectl: %w: %s", err, out)
	}
	for _, args := range [][]string{
		{"image", "import", filepath.Join(artifacts, sampleImage)},
		{"kubeconfig", kubeconfig},
		{"create", "namespace", workloadsNamespace},
	} {
		if err := osctl(ctx, args...); err != nil {
			return nil, err
		}
	}
	defer func() {
		err = errors.Join(err, osctl(context.WithoutCancel(ctx), "delete", "namespace", workloadsNamespace))
	}()
	node, err := dial(ctx)
	if err != nil {
		return nil, err
	}
	defer node.Close()
	w := &Workloads{}
	for _, count := range podBatches {
		started, err := measurePodStart(ctx, node, count)
		if err != nil {
			return nil, fmt.Errorf("start %d pods: %w", count, err)
		}
		w.PodStarts = append(w.PodStarts, started)
	}
	if err := createListedPods(ctx, node); err != nil {
		return nil, fmt.Errorf("create %d pods: %w", listedPods, err)
	}
	list := func(program string, flags ...string) []string {
		return append(append([]string{program}, flags...), "get", "pods", "-n", workloadsNamespace)
	}
	for _, each := range []struct {
		into *float64
		runs int
		args []string
	}{
		{&w.OsctlStartSeconds, startRuns, []string{"bin/osctl", "--version"}},
		{&w.KubectlStartSeconds, startRuns, []string{kubectl, "version", "--client"}},
		{&w.OsctlListSeconds, listRuns, list("bin/osctl")},
		{&w.KubectlListSeconds, listRuns, list(kubectl, "--kubeconfig", kubeconfig)},
	} {
		if *each.into, err = medianOf(each.runs, func() error { return exec.CommandContext(ctx, each.args[0], each.args[1:]...).Run() }); err != nil {
			return nil, fmt.Errorf("%s: %w", strings.Join(each.args, " "), err)
		}
	}
	w.APIListSeconds, err = medianOf(listRuns, func() error {
		_, err := node.Workload.Get(ctx, &workload.GetRequest{
			Selection: &workload.Selection{Resource: "pods", Namespace: workloadsNamespace}, Output: workload.Output_OUTPUT_TABLE, ColumnsOnly: true,
		})
		return err
	})
	return w, err
}

func medianOf(runs int, do func() error) (seconds float64, err error) {
	var all []float64
	for range runs {
		began := time.Now()
		if err := do(); err != nil {
			return 0, err
		}
		all = append(all, time.Since(began).Seconds())
	}
	return quantile(all, 0.5), nil
}

// quantile is the smallest of the values that so large a part of them is not
// above.
func quantile(values []float64, part float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	at := int(part*float64(len(sorted))+0.999999) - 1
	return sorted[min(max(at, 0), len(sorted)-1)]
}

func measurePodStart(ctx context.Context, node *client.Client, count int) (PodStart, error) {
	rounds := 1
	if count == 1 {
		rounds = singleRounds
	}
	fmt.Fprintf(os.Stderr, "starting %d pods at once\n", count)
	var all []float64
	for round := range rounds {
		seconds, err := startPods(ctx, node, count, fmt.Sprintf("start-%d-%d", count, round))
		if err != nil {
			return PodStart{}, err
		}
		all = append(all, seconds...)
	}
	return PodStart{Pods: count, P50Seconds: quantile(all, 0.5), P99Seconds: quantile(all, 0.99)}, nil
}

// startPods creates pods, waits until all are ready, deletes them, and returns
// how long each took.
func startPods(ctx context.Context, node *client.Client, count int, name string) ([]float64, error) {
	ctx, cancel := context.WithTimeout(ctx, podDeadline)
	defer cancel()
	selection := &workload.Selection{Resource: "pods", Namespace: workloadsNamespace, LabelSelector: "bench=" + name}
	watch, err := node.Workload.Watch(ctx, &workload.WatchRequest{Selection: selection, Output: workload.Output_OUTPUT_OBJECTS})
	if err != nil {
		return nil, err
	}
	began := time.Now()
	if err := createPods(ctx, node, 0, count, name, ""); err != nil {
		return nil, err
	}
	ready := map[string]float64{}
	for len(ready) < count {
		change, err := watch.Recv()
		if err != nil {
			return nil, fmt.Errorf("%d of %d pods got ready: %w", len(ready), count, err)
		}
		var pod corev1.Pod
		if err := json.Unmarshal(change.GetJson(), &pod); err != nil {
			return nil, err
		}
		_, known := ready[pod.Name]
		for _, condition := range pod.Status.Conditions {
			if !known && condition.Type == corev1.PodReady && condition.Status == corev1.ConditionTrue {
				ready[pod.Name] = time.Since(began).Seconds()
			}
		}
	}
	var seconds []float64
	for _, each := range ready {
		seconds = append(seconds, each)
	}
	gone, err := node.Workload.Delete(ctx, &workload.DeleteRequest{Selections: []*workload.Selection{selection}, GracePeriodSeconds: 1, Wait: true})
	if err != nil {
		return nil, err
	}
	return seconds, drained(gone.Recv)
}

func createListedPods(ctx context.Context, node *client.Client) error {
	fmt.Fprintf(os.Stderr, "creating %d pods that no node fits\n", listedPods)
	for first := 0; first < listedPods; first += listedBatch {
		if err := createPods(ctx, node, first, listedBatch, "listed", `nodeSelector: {no: node}, `); err != nil {
			return err
		}
	}
	return nil
}

func createPods(ctx context.Context, node *client.Client, first, count int, name, more string) error {
	var text strings.Builder
	for i := range count {
		fmt.Fprintf(&text, `---
apiVersion: v1
kind: Pod
metadata: {name: %[1]s-%[2]d, labels: {bench: %[1]s}}
spec: {%[3]sterminationGracePeriodSeconds: 1, containers: [{name: web, image: "keelson.local/sample-web:1", imagePullPolicy: Never, args: [echo], stdin: true}]}
`, name, first+i, more)
	}
	stream, err := node.Workload.Apply(ctx, &workload.ApplyRequest{
		Namespace: workloadsNamespace, Manifests: []*workload.Manifest{{Source: "bench", Content: []byte(text.String())}},
	})
	if err != nil {
		return err
	}
	return drained(stream.Recv)
}

// drained reads results to their end; the first refusal is the error.
func drained[T interface{ GetResult() *workload.ObjectResult }](receive func() (T, error)) error {
	var refused error
	for {
		answer, err := receive()
		switch {
		case errors.Is(err, io.EOF):
			return refused
		case err != nil:
			return err
		case refused == nil && answer.GetResult().GetError() != "":
			refused = errors.New(answer.GetResult().GetError())
		}
	}
}
