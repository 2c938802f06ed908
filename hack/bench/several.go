package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/keelson-os/keelson/pkg/api/workload"
	"github.com/keelson-os/keelson/pkg/client"
	"github.com/keelson-os/keelson/pkg/provision"
)

const severalCluster = "bench-ha"

// failOverDeadline bounds the wait for the first write after the leader died.
const failOverDeadline = 5 * time.Minute

// Several is what a cluster of three control-plane nodes and a worker measured.
type Several struct {
	// CreateSeconds is from the command to the last check that passed.
	CreateSeconds float64        `json:"createSeconds"`
	Nodes         []SeveralsNode `json:"nodes"`
	// FailOverSeconds is from the death of the etcd leader's machine to the
	// first write that is acknowledged through another node.
	FailOverSeconds float64 `json:"failOverSeconds"`
}

// SeveralsNode is one node of it.
type SeveralsNode struct {
	Name string `json:"name"`
	// ReadySeconds is from its kernel's start to Ready, VotingSeconds to a voting
	// member of etcd that answers; zero on a worker.
	ReadySeconds  float64 `json:"readySeconds"`
	VotingSeconds float64 `json:"votingSeconds"`
	// IdleCPUs is how much of a core the node uses when nobody asks anything.
	IdleCPUs      float64 `json:"idleCPUs"`
	MemoryUsedMiB float64 `json:"memoryUsedMiB"`
}

// measureSeveral makes a cluster of four nodes, measures it, and destroys it.
func measureSeveral(ctx context.Context, artifacts string, settle, sample time.Duration) (*Several, error) {
	end, err := ownCluster(ctx, severalCluster)
	if err != nil {
		return nil, err
	}
	defer end()
	began := time.Now()
	err = osctl(ctx, "cluster", "create", severalCluster, "--artifacts", artifacts, "--control-planes", "3", "--workers", "1",
		"--cpus", "1", "--memory", "2048", "--worker-memory", "1280", "--timeout", "30m")
	if err != nil {
		return nil, err
	}
	several := &Several{CreateSeconds: time.Since(began).Seconds()}
	cluster, err := provision.Open(severalCluster)
	if err != nil {
		return nil, err
	}
	layout, err := cluster.Layout()
	if err != nil {
		return nil, err
	}
	fmt.Fprintf(os.Stderr, "leaving the nodes alone for %s\n", settle)
	if err := pause(ctx, settle); err != nil {
		return nil, err
	}
	for _, node := range layout.Nodes {
		measured, err := measureNode(ctx, node, sample)
		if err != nil {
			return nil, fmt.Errorf("measure %s: %w", node.Name, err)
		}
		several.Nodes = append(several.Nodes, measured)
	}
	several.FailOverSeconds, err = measureFailOver(ctx, layout)
	return several, err
}

// measureNode asks one node through the endpoints.
func measureNode(ctx context.Context, node provision.NodeLayout, sample time.Duration) (SeveralsNode, error) {
	measured := SeveralsNode{Name: node.Name}
	access, err := access()
	if err != nil {
		return measured, err
	}
	options := access.Options("")
	options.Endpoint, options.Fallbacks = node.API.String(), nil
	direct, err := client.Dial(ctx, options)
	if err != nil {
		return measured, err
	}
	defer direct.Close()
	reached, err := milestones(ctx, direct)
	if err != nil {
		return measured, err
	}
	measured.ReadySeconds, _ = find(reached, "node Ready")
	measured.VotingSeconds, _ = find(reached, "etcd")
	idle, err := measureIdle(ctx, direct, sample)
	if err != nil {
		return measured, err
	}
	measured.IdleCPUs, measured.MemoryUsedMiB = idle.CPUs, idle.MemoryUsedMiB
	return measured, nil
}

func access() (*client.Context, error) {
	path, err := client.ConfigPath()
	if err != nil {
		return nil, err
	}
	config, err := client.LoadConfig(path)
	if err != nil {
		return nil, err
	}
	return config.Get("")
}

// measureFailOver kills the machine of etcd's leader and writes through the
// others until one says that it is kept.
func measureFailOver(ctx context.Context, layout provision.Layout) (float64, error) {
	out, err := exec.CommandContext(ctx, "bin/osctl", "cluster", "status", severalCluster).Output()
	if err != nil {
		return 0, fmt.Errorf("find the leader: %w", err)
	}
	leader := ""
	for line := range strings.Lines(string(out)) {
		if strings.Contains(line, "leader") {
			leader, _, _ = strings.Cut(strings.TrimSpace(line), " ")
		}
	}
	if leader == "" {
		return 0, fmt.Errorf("no leader in:\n%s", out)
	}
	if err := osctl(ctx, "cluster", "node", "kill", leader); err != nil {
		return 0, err
	}
	began := time.Now()
	ctx, cancel := context.WithTimeout(ctx, failOverDeadline)
	defer cancel()
	for n := 0; ; n++ {
		for _, node := range layout.Nodes {
			if !node.ControlPlane || node.Name == leader {
				continue
			}
			if write(ctx, node.API.String(), fmt.Sprintf("fail-over-%d", n)) == nil {
				return time.Since(began).Seconds(), nil
			}
		}
		if err := pause(ctx, 200*time.Millisecond); err != nil {
			return 0, fmt.Errorf("no write was acknowledged within %s", failOverDeadline)
		}
	}
}

// write writes one object through one node.
func write(ctx context.Context, endpoint, name string) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	access, err := access()
	if err != nil {
		return err
	}
	options := access.Options("")
	options.Endpoint, options.Fallbacks = endpoint, nil
	node, err := client.Dial(ctx, options)
	if err != nil {
		return err
	}
	defer node.Close()
	manifest := "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: " + name + "}\n"
	stream, err := node.Workload.Apply(ctx, &workload.ApplyRequest{Manifests: []*workload.Manifest{{Source: "-", Content: []byte(manifest)}}})
	if err != nil {
		return err
	}
	for kept := false; ; {
		answer, err := stream.Recv()
		switch {
		case errors.Is(err, io.EOF) && kept:
			return nil
		case err != nil:
			return err
		case answer.GetResult().GetError() != "":
			return errors.New(answer.GetResult().GetError())
		}
		kept = true
	}
}
