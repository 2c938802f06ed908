package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/semaphore"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/keelson-os/keelson/machined/api"
	"github.com/keelson-os/keelson/machined/host"
	"github.com/keelson-os/keelson/machined/storage"
	"github.com/keelson-os/keelson/machined/supervise"
	"github.com/keelson-os/keelson/pkg/api/machine"
	"github.com/keelson-os/keelson/pkg/machineconfig"
	"github.com/keelson-os/keelson/pkg/version"
)

// ownLogName is the name under which machined's own lines are read, as if it
// were a service.
const ownLogName = "machined"

// Stages of the node's life, in the API's terms.
const (
	booting       = machine.StatusResponse_STAGE_BOOTING
	inMaintenance = machine.StatusResponse_STAGE_MAINTENANCE
	running       = machine.StatusResponse_STAGE_RUNNING
	stopping      = machine.StatusResponse_STAGE_STOPPING
)

// newNode makes a node that has not begun to boot. out is its console.
func newNode(life context.Context, machine host.OS, out io.Writer) *node {
	n := &node{
		life:    life,
		os:      machine,
		console: newConsole(out),
		events:  api.NewEvents(machine.SinceBoot),
		ownLog:  supervise.NewLog(nil),
		stops:   make(chan stopRequest, 1),

		installing: semaphore.NewWeighted(1),
		reports:    reports{stage: booting, problems: map[string]string{}},
	}
	n.watch, n.unwatch = context.WithCancel(life)
	n.patience, n.hurry = context.WithCancel(life)
	n.log = slog.New(&lineHandler{sinceBoot: machine.SinceBoot, memory: n.ownLog, console: n.console})
	n.reaper = supervise.NewReaper(func(pid int) { n.log.Debug("orphan reaped", "pid", pid) })
	return n
}

// reports is what others may ask about the node while it changes.
type reports struct {
	mu       sync.Mutex // guards all below
	stage    machine.StatusResponse_Stage
	phase    string
	problems map[string]string     // by phase or part of machined; one a line
	hasVar   bool                  // /var is the disk's
	going    api.StopKind          // once the stage is stopping
	loaded   *machineconfig.Config // what the node runs by; nil in maintenance
}

func (n *node) setStage(stage machine.StatusResponse_Stage) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.stage != stopping { // there is no way back
		n.stage = stage
	}
}

func (n *node) setPhase(name string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.phase = name
}

// problem shows what is wrong with a part, on the console and in the status,
// until it is solved.
func (n *node) problem(part string, err error) {
	n.log.Error(part + ": " + err.Error())
	n.mu.Lock()
	defer n.mu.Unlock()
	n.problems[part] = err.Error()
}

func (n *node) solved(part string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.problems, part)
}

// Status implements api.Node.
func (n *node) Status() *machine.StatusResponse {
	n.mu.Lock()
	status := &machine.StatusResponse{Stage: n.stage, Phase: n.phase}
	for _, part := range slices.Sorted(maps.Keys(n.problems)) {
		for line := range strings.Lines(n.problems[part]) {
			status.Problems = append(status.Problems, part+": "+strings.TrimSuffix(line, "\n"))
		}
	}
	hasDisk := n.hasVar
	n.mu.Unlock()
	if hasDisk {
		if disk, err := host.ReadDisk(storage.VarDir); err == nil && isFull(disk) {
			status.Problems = append(status.Problems, fullMessage(disk))
		}
	}
	return status
}

// isFull: kubelet evicts pods below 10 % of free space, so below 3 % that did
// not help.
func isFull(disk host.Disk) bool { return disk.Available < disk.Total*3/100 }

func fullMessage(disk host.Disk) string {
	return fmt.Sprintf("the disk is full: %s has %d MiB of %d MiB left; delete workloads, or images that are not needed (osctl image rm)",
		storage.VarDir, disk.Available>>20, disk.Total>>20)
}

// Version implements api.Node.
func (n *node) Version() *machine.VersionResponse {
	kernel, err := host.KernelRelease()
	if err != nil {
		kernel = "unknown"
	}
	rootHash, _ := n.commandLine.Last("keelson.roothash")
	return &machine.VersionResponse{
		Version: version.Version, Kernel: kernel, Go: runtime.Version(), Architecture: runtime.GOARCH,
		Hostname: n.hostname(), RootHash: rootHash, Build: n.build(), SecureBoot: host.SecureBoot(n.os.Root()),
	}
}

// hostname is the kernel's, which the network stage sets.
func (n *node) hostname() string {
	name, _ := os.Hostname() // fails only without uname(2)
	return name
}

// Stats implements api.Node.
func (n *node) Stats() (*machine.StatsResponse, error) {
	memory, err := host.ReadMemory(n.os.Root())
	if err != nil {
		return nil, err
	}
	cpu, err := host.ReadCPU(n.os.Root())
	if err != nil {
		return nil, err
	}
	stats := &machine.StatsResponse{
		Uptime:      durationpb.New(n.os.SinceBoot()),
		MemoryTotal: memory.Total, MemoryAvailable: memory.Available,
		CpuBusy: durationpb.New(cpu.Busy), CpuIdle: durationpb.New(cpu.Idle), ContextSwitches: cpu.ContextSwitches,
	}
	n.mu.Lock()
	hasDisk := n.hasVar
	n.mu.Unlock()
	if !hasDisk {
		return stats, nil
	}
	disk, err := host.ReadDisk(storage.VarDir)
	if err != nil {
		return nil, err
	}
	stats.VarTotal, stats.VarAvailable = disk.Total, disk.Available
	return stats, nil
}
