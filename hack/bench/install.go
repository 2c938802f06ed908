package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/keelson-os/keelson/pkg/api/machine"
	"github.com/keelson-os/keelson/pkg/api/upgrade"
	"github.com/keelson-os/keelson/pkg/client"
)

// Install is how long it takes to install a node, and to update it.
type Install struct {
	// InstalledSeconds is from power-on of a machine with an empty disk and the ISO
	// image until the API answers from the disk.
	InstalledSeconds float64 `json:"installedSeconds"`
	// HealthySeconds is from there until all of the node's checks pass.
	HealthySeconds float64 `json:"healthySeconds"`
	// UpdateSeconds is from osctl upgrade until the new image is found good.
	UpdateSeconds float64 `json:"updateSeconds"`
	// DowntimeSeconds is how long of that the node's API does not answer.
	DowntimeSeconds float64 `json:"downtimeSeconds"`
	// MediumBytes is what the root image holds in memory of a machine that was booted
	// over the network. One that runs from its disk, or a medium, holds none: its
	// cached blocks are given back when memory is short.
	MediumBytes int64 `json:"mediumBytes"`
}

const (
	installCluster = "bench-install"
	// installDeadline bounds each step.
	installDeadline = 30 * time.Minute
	// answerInterval is how often the node is asked whether it answers.
	answerInterval = 200 * time.Millisecond
)

// measureInstall installs a node of its own from the ISO image, and updates it to
// another build.
func measureInstall(ctx context.Context, artifacts string, memory int) (_ *Install, err error) {
	second := filepath.Join(artifacts, "bench")
	if err := buildSecond(ctx, artifacts, second); err != nil {
		return nil, err
	}
	end, err := ownCluster(ctx, installCluster)
	if err != nil {
		return nil, err
	}
	defer end()
	result := &Install{}
	medium, err := os.Stat(filepath.Join(artifacts, "keelson.iso"))
	if err != nil {
		return nil, err
	}
	result.MediumBytes = medium.Size()

	began := time.Now()
	if err := osctl(ctx, "cluster", "create", installCluster, "--boot", "iso", "--artifacts", artifacts, "--memory", fmt.Sprint(memory), "--no-wait"); err != nil {
		return nil, err
	}
	node, err := dial(ctx)
	if err != nil {
		return nil, err
	}
	defer node.Close()
	fromDisk := func(ctx context.Context) bool {
		slots, err := node.Upgrade.Slots(ctx, &upgrade.SlotsRequest{})
		return err == nil && slots.GetRunning() != ""
	}
	if err := until(ctx, fromDisk); err != nil {
		return nil, fmt.Errorf("wait for the installation: %w", err)
	}
	result.InstalledSeconds = time.Since(began).Seconds()
	for _, args := range [][]string{{"bootstrap"}, {"health", "--wait", "--timeout", installDeadline.String()}} {
		if err := osctl(ctx, args...); err != nil {
			return nil, err
		}
	}
	result.HealthySeconds = time.Since(began).Seconds() - result.InstalledSeconds

	began = time.Now()
	watching, stop := context.WithCancel(ctx)
	defer stop()
	down := make(chan time.Duration, 1)
	go func() { down <- silence(watching, node) }()
	if err := osctl(ctx, "upgrade", "--image", filepath.Join(second, "keelson.bundle"), "--wait", "--timeout", installDeadline.String()); err != nil {
		return nil, err
	}
	result.UpdateSeconds = time.Since(began).Seconds()
	stop()
	result.DowntimeSeconds = (<-down).Seconds()
	return result, nil
}

// buildSecond makes another build beside the first.
func buildSecond(ctx context.Context, artifacts, out string) error {
	cmd := exec.CommandContext(ctx, "go", "run", "./images", "-out", out, "-from", artifacts, "-build-id", "bench", "bundle")
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	return cmd.Run()
}

// until waits until something is so.
func until(ctx context.Context, so func(context.Context) bool) error {
	ctx, cancel := context.WithTimeout(ctx, installDeadline)
	defer cancel()
	for !so(ctx) {
		if err := pause(ctx, answerInterval); err != nil {
			return err
		}
	}
	return nil
}

// silence is the longest time that the node did not answer in, until ctx ends.
func silence(ctx context.Context, node *client.Client) (longest time.Duration) {
	last := time.Now()
	for pause(ctx, answerInterval) == nil {
		asked, cancel := context.WithTimeout(ctx, 2*time.Second)
		_, err := node.Machine.Version(asked, &machine.VersionRequest{})
		cancel()
		if err == nil {
			longest = max(longest, time.Since(last))
			last = time.Now()
		}
	}
	return longest
}
