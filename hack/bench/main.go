// Command bench measures clusters on this machine and prints tables (and, with
// -json, the same figures as JSON): sizes of the artefacts, the milestones of a
// one-node cluster's first boot beside the bare floor of the same run, what the
// idle node uses, etcd's writes beside upstream's etcd, how long an installation
// and an update take, how fast pods start and clients answer, and how a cluster of
// four nodes forms and fails over. Machines differ and are noisy: compare ratios
// within one run.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"time"
)

// Report is everything one run measured.
type Report struct {
	Date time.Time `json:"date"`
	// SizesBytes by artefact, and of the programs inside the root image.
	ArtifactBytes  map[string]int64 `json:"artifactBytes"`
	ComponentBytes map[string]int64 `json:"componentBytes"`
	// FirmwareSeconds is from power-on (QEMU's start) to the kernel's; the floor
	// has the same firmware, kernel and way to them.
	FirmwareSeconds float64 `json:"firmwareSeconds"`
	// Milestones, in seconds since the kernel started.
	Floor      []Milestone `json:"floorSeconds"`
	FirstBoot  []Milestone `json:"firstBootSeconds"`
	SecondBoot []Milestone `json:"secondBootSeconds"`
	Idle       Idle        `json:"idle"`
	// Etcd is the image's, PlainEtcd upstream's server of the same version.
	Etcd      EtcdWrites `json:"etcdWritesPerSecond"`
	PlainEtcd EtcdWrites `json:"plainEtcdWritesPerSecond"`
	Several   *Several   `json:"fourNodes,omitempty"`
	Workloads *Workloads `json:"workloads,omitempty"`
	Install   *Install   `json:"install,omitempty"`
}

// Milestone is a point of the boot.
type Milestone struct {
	Name    string  `json:"name"`
	Seconds float64 `json:"seconds"`
}

// Idle is what the node uses when nobody asks anything of it.
type Idle struct {
	MemoryUsedMiB    float64          `json:"memoryUsedMiB"`
	CPUs             float64          `json:"cpus"`
	ContextSwitches  float64          `json:"contextSwitchesPerSecond"`
	Services         []ServiceMeasure `json:"services"`
	MeasuredSeconds  float64          `json:"measuredSeconds"`
	SettleForSeconds float64          `json:"settledForSeconds"`
}

// ServiceMeasure is one service's share.
type ServiceMeasure struct {
	Name         string  `json:"name"`
	MemoryMiB    float64 `json:"memoryMiB"`
	AnonymousMiB float64 `json:"anonymousMiB"`
	CPUPercent   float64 `json:"cpuPercent"`
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run() error {
	artifacts := flag.String("artifacts", "_out", "`folder` of the built artefacts")
	jsonPath := flag.String("json", "", "write the figures to this `file` too")
	settle := flag.Duration("settle", 2*time.Minute, "how long the node is left alone before idle use is measured")
	sample := flag.Duration("sample", time.Minute, "how long idle use is measured")
	memory := flag.Int("memory", 3072, "the node's memory in `MiB`")
	only := flag.String("only", "", "measure one `part`: etcd, node, install, workloads or cluster (default: all)")
	current := flag.Bool("current", false, "measure workloads on the cluster of osctl's current context, not on one of its own")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()

	report := Report{Date: time.Now().UTC().Truncate(time.Second)}
	if err := report.readSizes(filepath.Join(*artifacts, "sizes.json")); err != nil {
		return err
	}
	var err error
	if *only == "" || *only == "etcd" {
		fmt.Fprintln(os.Stderr, "measuring etcd's writes beside upstream's etcd")
		if report.Etcd, report.PlainEtcd, err = measureEtcd(ctx, *artifacts); err != nil {
			return fmt.Errorf("measure etcd: %w", err)
		}
	}
	if *only == "" || *only == "node" {
		fmt.Fprintln(os.Stderr, "measuring the bare floor: kernel, etcd and API server alone")
		if report.Floor, err = measureFloor(ctx, *artifacts, *memory); err != nil {
			return fmt.Errorf("measure the floor: %w", err)
		}
		if err := measureCluster(ctx, &report, *artifacts, *memory, *settle, *sample); err != nil {
			return err
		}
	}
	if *only == "" || *only == "install" {
		fmt.Fprintln(os.Stderr, "measuring an installation and an update")
		if report.Install, err = measureInstall(ctx, *artifacts, *memory); err != nil {
			return fmt.Errorf("measure an installation: %w", err)
		}
	}
	if *only == "" || *only == "workloads" {
		fmt.Fprintln(os.Stderr, "measuring workloads")
		if *current {
			report.Workloads, err = measureWorkloads(ctx, *artifacts)
		} else {
			report.Workloads, err = measureWorkloadsAlone(ctx, *artifacts, *memory)
		}
		if err != nil {
			return fmt.Errorf("measure workloads: %w", err)
		}
	}
	if *only == "" || *only == "cluster" {
		fmt.Fprintln(os.Stderr, "measuring a cluster of three control-plane nodes and a worker")
		if report.Several, err = measureSeveral(ctx, *artifacts, *settle, *sample); err != nil {
			return fmt.Errorf("measure a cluster of four nodes: %w", err)
		}
	}
	report.print(os.Stdout)
	if *jsonPath == "" {
		return nil
	}
	text, err := json.MarshalIndent(report, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(*jsonPath, append(text, '\n'), 0o644)
}

func (r *Report) readSizes(path string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("%w: build the image first: make image", err)
	}
	var sizes struct {
		Artifacts  map[string]int64 `json:"artifacts"`
		Components map[string]int64 `json:"components"`
	}
	if err := json.Unmarshal(text, &sizes); err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	if len(sizes.Artifacts) == 0 {
		return errors.New(path + " names no artefact")
	}
	r.ArtifactBytes, r.ComponentBytes = sizes.Artifacts, sizes.Components
	return nil
}
