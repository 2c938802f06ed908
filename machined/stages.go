package main

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/keelson-os/keelson/machined/api"
	"github.com/keelson-os/keelson/machined/config"
	"github.com/keelson-os/keelson/machined/etcd"
	"github.com/keelson-os/keelson/machined/host"
	"github.com/keelson-os/keelson/machined/install"
	"github.com/keelson-os/keelson/machined/network"
	"github.com/keelson-os/keelson/machined/storage"
	"github.com/keelson-os/keelson/machined/supervise"
)

const (
	// servicesCgroup holds one group per service.
	servicesCgroup = host.CgroupRoot + "/keelson"
	// maxOpenFiles is what services may raise their own limit to: etcd and
	// kubelet watch thousands of files. It is the kernel's fs.nr_open.
	maxOpenFiles = 1 << 20
	// lateCards is when, counted from the kernel's start, a network card that the
	// config names is taken for absent. USB cards were seen after some seconds.
	lateCards = time.Minute
)

// configError says that the config cannot be had or fulfilled: the node goes
// into maintenance.
type configError struct{ err error }

func (e *configError) Error() string { return e.err.Error() }
func (e *configError) Unwrap() error { return e.err }

func (n *node) mountFileSystems(context.Context) error { return host.MountBase(n.os) }

// startSupervisor makes the supervisor. Where the kernel refuses cgroups the
// node runs without: unlimited services are better than no API.
func (n *node) startSupervisor(context.Context) error {
	options := supervise.Options{
		Log: n.log, CgroupRoot: servicesCgroup, Root: n.os.Root(), Reaper: n.reaper, OnChange: n.serviceChanged(),
	}
	broken := host.SetUpCgroups(n.os)
	var err error
	if n.supervisor, err = supervise.New(options); err != nil {
		broken = errors.Join(broken, err)
		options.CgroupRoot = ""
		if n.supervisor, err = supervise.New(options); err != nil {
			return errors.Join(broken, err)
		}
	}
	n.supervisor.AddLog(ownLogName, n.ownLog)
	return broken
}

// serviceChanged publishes the services' changes. The supervisor calls the
// result with one change at a time.
func (n *node) serviceChanged() func(supervise.Status) {
	last := map[string]supervise.State{}
	reached := map[string]bool{}
	return func(now supervise.Status) {
		if last[now.Name] == now.State {
			return // only its message or health changed
		}
		last[now.Name] = now.State
		n.events.Publish(api.KindService, now.Name, string(now.State), now.Message)
		if now.Ready() && !reached[now.Name] {
			reached[now.Name] = true
			n.events.Reached(milestone(now.Name), "first healthy")
		}
	}
}

// milestone is what a service's first health means for the boot.
func milestone(service string) string {
	if service == api.Front {
		return "api"
	}
	return service
}

// loadModules loads what devices ask for and what a node needs.
func (n *node) loadModules(ctx context.Context) error {
	var err error
	if n.commandLine, err = host.ReadCommandLine(n.os.Root()); err != nil {
		return err
	}
	release, err := host.KernelRelease()
	if err != nil {
		return err
	}
	if n.modules, err = host.ReadModules(n.os.Root(), path.Join("usr/lib/modules", release)); err != nil {
		return err
	}
	devices, err := host.Coldplug(n.os.Root(), n.modules)
	err = errors.Join(err, n.load(ctx, slices.Concat(devices, host.EarlyModules)))
	n.background(n.life, "watchdog", supervise.RestartTask, n.keepWatchdog)
	return err
}

// loadContainerModules runs while the disk is prepared. A module that is missing
// is shown, and is no reason to hold the disk up.
func (n *node) loadContainerModules(ctx context.Context) error {
	if n.modules == nil {
		return nil // phase host says why
	}
	if err := n.load(ctx, slices.Concat(host.ContainerModules, podNetworkModules(n.config))); err != nil {
		n.problem("container modules", err)
	}
	return nil
}

func (n *node) load(ctx context.Context, names []string) error {
	steps, err := n.modules.Plan(names...)
	return errors.Join(err, host.LoadModules(ctx, n.os, steps))
}

func (n *node) raiseLimits(context.Context) error { return n.os.RaiseFileLimit(maxOpenFiles) }

// loadConfig finds the machine config. Any error means maintenance.
func (n *node) loadConfig(ctx context.Context) error {
	url, _ := n.commandLine.Last(config.URLParameter)
	options := config.Options{Root: n.os.Root(), URL: url, Network: n.bringUpNetwork, Log: n.log}
	if n.booted.Kind == install.Installed {
		options.Installed = n.readInstalledConfig
	}
	found, source, err := config.Load(ctx, options)
	if err != nil {
		return &configError{err}
	}
	if ctx.Err() != nil {
		return ctx.Err() // too late: the node is in maintenance by now
	}
	n.config, n.source = found, source
	n.mu.Lock()
	n.loaded = found
	n.mu.Unlock()
	n.events.Publish(api.KindConfig, "config", "loaded", "from "+string(source))
	return nil
}

// applyKernelSettings loads the config's modules, then sets all sysctls: some
// exist only once their module is there.
func (n *node) applyKernelSettings(ctx context.Context) error {
	var own map[string]string
	var failed []error
	if n.config != nil {
		own = n.config.Machine.Kernel.Sysctls
		if names := n.config.Machine.Kernel.Modules; len(names) > 0 && n.modules != nil {
			failed = append(failed, n.load(ctx, names))
		}
	}
	absent, err := host.ApplySysctls(n.os, host.Sysctls(own))
	if len(absent) > 0 {
		n.log.Debug("sysctls this kernel does not have", "names", strings.Join(absent, " "))
	}
	return errors.Join(append(failed, err)...)
}

// bringUpNetwork waits for an address. Without a config every network card asks
// DHCP; a network that was brought up so, to fetch the config, makes place for
// the config's own.
func (n *node) bringUpNetwork(ctx context.Context) error {
	options := network.Options{OS: n.os, Log: n.log}
	if n.config != nil {
		options.Machine = n.config.Machine
	}
	if n.network != nil && n.networkOf == options.Machine {
		// Tried again: it is up and still asks for an address.
		if _, err := n.network.Wait(ctx); err != nil {
			return errors.New("no address yet: check the cable and the DHCP server, or set machine.network.interfaces")
		}
		return nil
	}
	if n.network != nil {
		if err := n.network.Close(); err != nil {
			return err
		}
	}
	up, err := network.Up(ctx, options)
	// One without an address keeps trying while this error is shown.
	n.network, n.networkOf = up, options.Machine
	var wrong *network.FieldError
	if errors.As(err, &wrong) && n.os.SinceBoot() >= lateCards {
		return &configError{err}
	}
	return err
}

// nodeState is the network as later stages take it for granted: the phases
// before them succeeded only with an address.
func (n *node) nodeState() network.State {
	state, _ := n.network.State()
	return state
}

// openStorage finds or makes the node's partitions and mounts them.
func (n *node) openStorage(ctx context.Context) error {
	member, err := n.lookupUser(etcd.Name)
	if err != nil {
		return err
	}
	options := n.storageOptions(n.config)
	options.Reserve = member.UID
	opened, err := storage.Open(ctx, options)
	if err != nil {
		return err
	}
	n.storage = opened
	if opened.Formatted {
		n.events.Publish(api.KindMachine, "disk", "formatted", "its file systems were made anew")
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.hasVar = true
	return nil
}

// lookupUser finds a service's user in the image's etc/passwd.
func (n *node) lookupUser(name string) (supervise.User, error) {
	return supervise.LookupUser(n.os.Root(), name)
}

// start adds services and makes them wanted. A phase that is tried again finds
// them added.
func (n *node) start(ctx context.Context, specs ...supervise.Spec) error {
	if n.supervisor == nil {
		return fmt.Errorf("no supervisor: phase host failed")
	}
	var names []string
	var missing []supervise.Spec
	for _, spec := range specs {
		names = append(names, spec.Name)
		if _, err := n.supervisor.Status(spec.Name); err != nil {
			missing = append(missing, spec)
		}
	}
	if err := n.supervisor.Add(missing...); err != nil {
		return err
	}
	return n.supervisor.Start(ctx, names...)
}
