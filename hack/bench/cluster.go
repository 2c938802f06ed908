package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/keelson-os/keelson/pkg/api/machine"
	"github.com/keelson-os/keelson/pkg/api/service"
	"github.com/keelson-os/keelson/pkg/client"
	"github.com/keelson-os/keelson/pkg/provision"
)

const (
	benchCluster = "bench"
	sampleImage  = "sample-web.tar"
	sampleYAML   = "hack/sample/sample-web.yaml"
	// podDeadline bounds the wait for the sample's pods.
	podDeadline = 30 * time.Minute
)

// ownCluster makes room for a cluster of the benchmark's own, beside the user's
// clusters and contexts. end destroys it, also after an interrupt.
func ownCluster(ctx context.Context, name string) (end func(), err error) {
	state, err := os.MkdirTemp("", "keelson-bench-")
	if err != nil {
		return nil, err
	}
	os.Setenv("XDG_STATE_HOME", state)
	os.Setenv("OSCTL_CONFIG", filepath.Join(state, "osctl.yaml"))
	return func() {
		_ = osctl(context.WithoutCancel(ctx), "cluster", "destroy", name)
		os.RemoveAll(state)
	}, nil
}

// measureCluster boots a one-node cluster of its own, measures it, and
// destroys it. The user's clusters and contexts are left alone.
func measureCluster(ctx context.Context, report *Report, artifacts string, memory int, settle, sample time.Duration) error {
	end, err := ownCluster(ctx, benchCluster)
	if err != nil {
		return err
	}
	defer end()
	fmt.Fprintln(os.Stderr, "measuring a first boot")
	if err := osctl(ctx, "cluster", "create", benchCluster, "--artifacts", artifacts, "--memory", fmt.Sprint(memory)); err != nil {
		return err
	}
	node, err := dial(ctx)
	if err != nil {
		return err
	}
	defer node.Close()
	if err := osctl(ctx, "image", "import", filepath.Join(artifacts, sampleImage)); err != nil {
		return err
	}
	if err := osctl(ctx, "apply", "-f", sampleYAML); err != nil {
		return err
	}
	running, err := podRunning(ctx, node)
	if err != nil {
		return err
	}
	if report.FirstBoot, err = milestones(ctx, node); err != nil {
		return err
	}
	report.FirstBoot = append(report.FirstBoot, running)
	if report.FirmwareSeconds, err = firmwareTime(ctx, node); err != nil {
		return err
	}

	fmt.Fprintf(os.Stderr, "leaving the node alone for %s\n", settle)
	if err := pause(ctx, settle); err != nil {
		return err
	}
	if report.Idle, err = measureIdle(ctx, node, sample); err != nil {
		return err
	}
	report.Idle.SettleForSeconds = settle.Seconds()

	fmt.Fprintln(os.Stderr, "measuring a reboot")
	if err := osctl(ctx, "reboot", "--wait"); err != nil {
		return err
	}
	if err := osctl(ctx, "health", "--wait"); err != nil {
		return err
	}
	if running, err = podRunning(ctx, node); err != nil {
		return err
	}
	if report.SecondBoot, err = milestones(ctx, node); err != nil {
		return err
	}
	report.SecondBoot = append(report.SecondBoot, running)
	return nil
}

// firmwareTime is how much longer QEMU has run than the guest's kernel.
func firmwareTime(ctx context.Context, node *client.Client) (float64, error) {
	cluster, err := provision.Open(benchCluster)
	if err != nil {
		return 0, err
	}
	status, err := cluster.Status(ctx)
	if err != nil {
		return 0, err
	}
	qemu, err := runningFor(status.Nodes[0].PID)
	if err != nil {
		return 0, err
	}
	stats, err := node.Machine.Stats(ctx, &machine.StatsRequest{})
	if err != nil {
		return 0, err
	}
	return qemu - stats.GetUptime().AsDuration().Seconds(), nil
}

// ticksPerSecond is USER_HZ, the unit of times in /proc/PID/stat: 100 on every
// architecture that Go runs on (getconf CLK_TCK).
const ticksPerSecond = 100

// runningFor is how long a process of this machine has run, in seconds.
func runningFor(pid int) (float64, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	uptime, err := os.ReadFile("/proc/uptime")
	if err != nil {
		return 0, err
	}
	var now, started float64
	if _, err := fmt.Sscan(string(uptime), &now); err != nil {
		return 0, fmt.Errorf("read /proc/uptime: %w", err)
	}
	// Fields are counted behind the program's name, which may hold blanks:
	// starttime is field 22, the name field 2 (proc(5)).
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	if len(fields) < 20 {
		return 0, fmt.Errorf("read /proc/%d/stat: %d fields", pid, len(fields))
	}
	if _, err := fmt.Sscan(fields[19], &started); err != nil {
		return 0, fmt.Errorf("read /proc/%d/stat: %w", pid, err)
	}
	return now - started/ticksPerSecond, nil
}

func osctl(ctx context.Context, args ...string) error {
	cmd := exec.CommandContext(ctx, "bin/osctl", args...)
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("osctl %s: %w", strings.Join(args, " "), err)
	}
	return nil
}

func dial(ctx context.Context) (*client.Client, error) {
	path, err := client.ConfigPath()
	if err != nil {
		return nil, err
	}
	config, err := client.LoadConfig(path)
	if err != nil {
		return nil, err
	}
	access, err := config.Get("")
	if err != nil {
		return nil, err
	}
	return client.Dial(ctx, access.Options(""))
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// podRunning waits until both pods of the sample run, and tells when, by the
// node's clock.
func podRunning(ctx context.Context, node *client.Client) (Milestone, error) {
	ctx, cancel := context.WithTimeout(ctx, podDeadline)
	defer cancel()
	for {
		out, err := exec.CommandContext(ctx, "bin/osctl", "get", "pods", "-l", "app=sample-web", "--no-headers").Output()
		if err == nil && strings.Count(string(out), "1/1") == 2 {
			stats, err := node.Machine.Stats(ctx, &machine.StatsRequest{})
			if err != nil {
				return Milestone{}, err
			}
			return Milestone{"pods ready", stats.GetUptime().AsDuration().Seconds()}, nil
		}
		if err := pause(ctx, 500*time.Millisecond); err != nil {
			return Milestone{}, fmt.Errorf("wait for the sample's pods: %w; last: %s", err, out)
		}
	}
}

// milestones reads the points of this boot from the node's events.
func milestones(ctx context.Context, node *client.Client) ([]Milestone, error) {
	stream, err := node.Machine.Events(ctx, &machine.EventsRequest{})
	if err != nil {
		return nil, err
	}
	var found []Milestone
	for {
		event, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		if event.GetKind() == "machine" && event.GetAction() == "reached" {
			found = append(found, Milestone{event.GetSubject(), event.GetSinceBoot().AsDuration().Seconds()})
		}
	}
	if len(found) == 0 {
		return nil, errors.New("the node's events hold no milestone")
	}
	return found, nil
}

// measureIdle compares two looks at the node's counters.
func measureIdle(ctx context.Context, node *client.Client, sample time.Duration) (Idle, error) {
	first, firstServices, err := look(ctx, node)
	if err != nil {
		return Idle{}, err
	}
	if err := pause(ctx, sample); err != nil {
		return Idle{}, err
	}
	last, lastServices, err := look(ctx, node)
	if err != nil {
		return Idle{}, err
	}
	elapsed := (last.GetUptime().AsDuration() - first.GetUptime().AsDuration()).Seconds()
	idle := Idle{
		MeasuredSeconds: elapsed,
		MemoryUsedMiB:   float64(last.GetMemoryTotal()-last.GetMemoryAvailable()) / mebibyte,
		CPUs:            (last.GetCpuBusy().AsDuration() - first.GetCpuBusy().AsDuration()).Seconds() / elapsed,
		ContextSwitches: float64(last.GetContextSwitches()-first.GetContextSwitches()) / elapsed,
	}
	for _, s := range lastServices {
		before := slices.IndexFunc(firstServices, func(f *service.Service) bool { return f.GetName() == s.GetName() })
		if before < 0 {
			continue
		}
		used := s.GetCpu().AsDuration() - firstServices[before].GetCpu().AsDuration()
		idle.Services = append(idle.Services, ServiceMeasure{
			Name: s.GetName(), CPUPercent: 100 * used.Seconds() / elapsed,
			MemoryMiB: float64(s.GetMemory()) / mebibyte, AnonymousMiB: float64(s.GetMemoryAnonymous()) / mebibyte,
		})
	}
	return idle, nil
}

func look(ctx context.Context, node *client.Client) (*machine.StatsResponse, []*service.Service, error) {
	stats, err := node.Machine.Stats(ctx, &machine.StatsRequest{})
	if err != nil {
		return nil, nil, err
	}
	services, err := node.Service.List(ctx, &service.ListRequest{})
	return stats, services.GetServices(), err
}
