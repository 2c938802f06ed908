package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"text/tabwriter"
)

const mebibyte = 1 << 20

func (r *Report) print(to io.Writer) {
	w := tabwriter.NewWriter(to, 0, 0, 2, ' ', tabwriter.AlignRight)
	defer w.Flush()
	section := func(title string, columns string) { fmt.Fprintf(w, "\n%s\t%s\t\n", title, columns) }

	section("artefact", "MiB")
	for _, name := range slices.Sorted(maps.Keys(r.ArtifactBytes)) {
		fmt.Fprintf(w, "%s\t%.1f\t\n", name, float64(r.ArtifactBytes[name])/mebibyte)
	}
	section("in the root image, uncompressed", "MiB")
	for _, name := range slices.Sorted(maps.Keys(r.ComponentBytes)) {
		fmt.Fprintf(w, "%s\t%.1f\t\n", name, float64(r.ComponentBytes[name])/mebibyte)
	}

	if r.Etcd != (EtcdWrites{}) {
		section("etcd, writes per second", "the image's\tupstream's\tratio")
		fmt.Fprintf(w, "one client\t%.0f\t%.0f\t%.2f\t\n", r.Etcd.OneClient, r.PlainEtcd.OneClient, r.Etcd.OneClient/r.PlainEtcd.OneClient)
		fmt.Fprintf(w, "%d clients\t%.0f\t%.0f\t%.2f\t\n", etcdClients, r.Etcd.ManyClients, r.PlainEtcd.ManyClients, r.Etcd.ManyClients/r.PlainEtcd.ManyClients)
	}
	if i := r.Install; i != nil {
		section("a node from the ISO image", "seconds")
		fmt.Fprintf(w, "power-on to the API from its disk\t%.0f\t\n", i.InstalledSeconds)
		fmt.Fprintf(w, "from there until healthy\t%.0f\t\n", i.HealthySeconds)
		fmt.Fprintf(w, "update, from the command until found good\t%.0f\t\n", i.UpdateSeconds)
		fmt.Fprintf(w, "of that without an answer of the node's API\t%.0f\t\n", i.DowntimeSeconds)
		section("root image in memory", "MiB")
		fmt.Fprintf(w, "from a disk or a medium\t0.0\t\n")
		fmt.Fprintf(w, "after network boot, until it is installed\t%.1f\t\n", float64(i.MediumBytes)/mebibyte)
	}
	if clients := r.Workloads; clients != nil {
		section("pods created at once, image present: seconds until ready", "p50\tp99")
		for _, p := range clients.PodStarts {
			fmt.Fprintf(w, "%d\t%.2f\t%.2f\t\n", p.Pods, p.P50Seconds, p.P99Seconds)
		}
		section("clients, seconds (median)", "osctl\tkubectl\tratio\tAPI alone")
		fmt.Fprintf(w, "start\t%.3f\t%.3f\t%.2f\t\t\n", clients.OsctlStartSeconds, clients.KubectlStartSeconds, clients.OsctlStartSeconds/clients.KubectlStartSeconds)
		fmt.Fprintf(w, "list %d pods\t%.3f\t%.3f\t%.2f\t%.3f\t\n", listedPods, clients.OsctlListSeconds, clients.KubectlListSeconds,
			clients.OsctlListSeconds/clients.KubectlListSeconds, clients.APIListSeconds)
	}
	if r.Several != nil {
		section("four nodes, seconds since its kernel's start", "member votes\tReady\tidle CPU %\tmemory MiB")
		for _, n := range r.Several.Nodes {
			fmt.Fprintf(w, "%s\t%.1f\t%.1f\t%.1f\t%.0f\t\n", n.Name, n.VotingSeconds, n.ReadySeconds, 100*n.IdleCPUs, n.MemoryUsedMiB)
		}
		fmt.Fprintf(w, "created and healthy\t\t%.0f\t\t\t\n", r.Several.CreateSeconds)
		fmt.Fprintf(w, "first write after the leader died\t\t%.1f\t\t\t\n", r.Several.FailOverSeconds)
	}
	if r.FirstBoot == nil {
		return
	}

	section("milestone, seconds since power-on", "floor\tfirst boot\tto floor\treboot")
	fmt.Fprintf(w, "kernel\t%.1f\t%.1f\t-\t%.1f\t\n", r.FirmwareSeconds, r.FirmwareSeconds, r.FirmwareSeconds)
	for _, m := range r.FirstBoot {
		fmt.Fprintf(w, "%s\t%s\t%.1f\t%s\t%s\t\n", m.Name, r.seconds(r.Floor, m.Name), r.FirmwareSeconds+m.Seconds, r.ratio(m), r.seconds(r.SecondBoot, m.Name))
	}

	section(fmt.Sprintf("idle, after %.0f s", r.Idle.SettleForSeconds), "memory MiB\tanonymous MiB\tCPU %")
	for _, s := range r.Idle.Services {
		fmt.Fprintf(w, "%s\t%.1f\t%.1f\t%.2f\t\n", s.Name, s.MemoryMiB, s.AnonymousMiB, s.CPUPercent)
	}
	fmt.Fprintf(w, "whole node\t%.1f\t\t%.2f\t\n", r.Idle.MemoryUsedMiB, 100*r.Idle.CPUs)
	fmt.Fprintf(w, "context switches per second\t%.0f\t\t\t\n", r.Idle.ContextSwitches)
}

func find(list []Milestone, name string) (float64, bool) {
	for _, m := range list {
		if m.Name == name {
			return m.Seconds, true
		}
	}
	return 0, false
}

func (r *Report) seconds(list []Milestone, name string) string {
	if s, ok := find(list, name); ok {
		return fmt.Sprintf("%.1f", r.FirmwareSeconds+s)
	}
	return "-"
}

// ratio is the first boot's milestone as a multiple of the floor's.
func (r *Report) ratio(m Milestone) string {
	if s, ok := find(r.Floor, m.Name); ok {
		return fmt.Sprintf("%.2f×", (r.FirmwareSeconds+m.Seconds)/(r.FirmwareSeconds+s))
	}
	return "-"
}
