package host

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Modules that a Kubernetes node needs and no device asks for. The kernel would
// ask for some through /sbin/modprobe, which the image does not have, so all are
// loaded before they are needed.

// EarlyModules are needed before the network and the disk.
var EarlyModules = []string{
	// The config handed over by QEMU, and the link of the cluster's name server.
	"qemu_fw_cfg", "dummy",
	// They bring sysctls that kubernetesSysctls sets: loaded later, they would
	// come with the kernel's defaults.
	"br_netfilter", "nf_conntrack",
	// The node's own disk.
	"ext4",
}

// ContainerModules are needed by containers and their network on one node; what
// the network between nodes takes depends on the config.
var ContainerModules = []string{
	"overlay", "veth", "bridge",
	// Expressions and chain types that kube-proxy, flannel and CNI use.
	"nf_tables", "nf_nat",
	"nft_ct", "nft_nat", "nft_masq", "nft_redir", "nft_chain_nat", "nft_numgen", "nft_fib_inet", "nft_limit", "nft_log", "nft_hash",
	"nft_reject_inet", "nft_reject_ipv4", "nft_reject_ipv6",
}

// LoadModules runs a plan, independent modules at the same time: checking a
// module's signature is what takes long. What needs a module that failed is
// not tried. A driver that finds its hardware missing is no failure. The error
// joins all failures; the other modules are loaded.
func LoadModules(ctx context.Context, os OS, steps []ModuleStep) error {
	type result struct {
		done chan struct{}
		err  error
	}
	results := make([]result, len(steps))
	for i := range results {
		results[i].done = make(chan struct{})
	}
	slots := make(chan struct{}, runtime.NumCPU())
	for i, step := range steps {
		go func() {
			defer close(results[i].done)
			for _, before := range step.After {
				<-results[before].done
				if results[before].err != nil {
					results[i].err = fmt.Errorf("module %s: %s, which it needs, is not loaded", step.Name, steps[before].Name)
					return
				}
			}
			slots <- struct{}{}
			defer func() { <-slots }()
			if results[i].err = ctx.Err(); results[i].err != nil {
				return
			}
			if err := os.LoadModule(step.Path); err != nil && !errors.Is(err, unix.ENODEV) {
				results[i].err = fmt.Errorf("load module %s from %s: %w", step.Name, step.Path, err)
			}
		}()
	}
	var failed []error
	for i := range results {
		<-results[i].done
		failed = append(failed, results[i].err)
	}
	return errors.Join(failed...)
}

// Coldplug lists, each once, the modules that drive the devices which are
// already there. (Devices that come later announce themselves: see Uevents.)
func Coldplug(root fs.FS, modules *Modules) ([]string, error) {
	// Through /sys/bus each device is seen once, without walking the whole of
	// /sys/devices, which holds ten times as many directories.
	files, err := fs.Glob(root, "sys/bus/*/devices/*/modalias")
	if err != nil {
		return nil, fmt.Errorf("list the devices: %w", err)
	}
	var names []string
	for _, file := range files {
		modalias, err := fs.ReadFile(root, file)
		if err != nil {
			continue // unplugged in this moment, or a device without an alias
		}
		names = append(names, modules.ByAlias(strings.TrimSpace(string(modalias)))...)
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

// Drivers loads the modules that devices ask for, each once.
type Drivers struct {
	os      OS
	modules *Modules
	tried   map[string]bool
}

// NewDrivers has loaded nothing yet.
func NewDrivers(os OS, modules *Modules) *Drivers {
	return &Drivers{os, modules, map[string]bool{}}
}

// busDepth bounds how often one device's driver brings another device: a PCI
// controller, its hub, a disk behind that, and some more.
const busDepth = 8

// Load loads the drivers of the devices that are there now, and of those that
// these drivers find in turn. Call it again when more appear.
func (d *Drivers) Load(ctx context.Context) error {
	var failed []error
	for range busDepth {
		names, err := Coldplug(d.os.Root(), d.modules)
		if err != nil {
			return err
		}
		names = slices.DeleteFunc(names, func(name string) bool { return d.tried[name] })
		if len(names) == 0 {
			break
		}
		for _, name := range names {
			d.tried[name] = true
		}
		// A driver that is not in the image is left out on purpose.
		steps, _ := d.modules.Plan(names...)
		failed = append(failed, LoadModules(ctx, d.os, steps))
	}
	return errors.Join(failed...)
}
