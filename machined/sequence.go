package main

import (
	"context"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/keelson-os/keelson/machined/api"
	"github.com/keelson-os/keelson/machined/balancer"
	"github.com/keelson-os/keelson/machined/config"
	"github.com/keelson-os/keelson/machined/containers"
	"github.com/keelson-os/keelson/machined/etcd"
	"github.com/keelson-os/keelson/machined/host"
	"github.com/keelson-os/keelson/machined/install"
	"github.com/keelson-os/keelson/machined/join"
	"github.com/keelson-os/keelson/machined/kubernetes"
	"github.com/keelson-os/keelson/machined/logind"
	"github.com/keelson-os/keelson/machined/network"
	"github.com/keelson-os/keelson/machined/storage"
	"github.com/keelson-os/keelson/machined/supervise"
	"github.com/keelson-os/keelson/machined/upgrade"
	"github.com/keelson-os/keelson/pkg/machineconfig"
)

// bootSequence takes a node from process 1 to a running member of its cluster.
// The services it starts wait for each other and for `osctl bootstrap` by
// themselves: see machined/supervise.
var bootSequence = sequence{name: "boot", phases: []phase{
	{"mounts", goOn, []task{
		{"kernel file systems", 30 * time.Second, supervise.FailTask, (*node).mountFileSystems},
	}},
	{"host", goOn, []task{
		{"supervisor", 30 * time.Second, supervise.FailTask, (*node).startSupervisor},
		{"kernel modules", 2 * time.Minute, supervise.FailTask, (*node).loadModules},
		{"limits", 10 * time.Second, supervise.IgnorePanic, (*node).raiseLimits},
	}},
	// Before the config: an image that cannot read it is given up as well.
	{"slots", goOn, []task{
		{"last update", time.Minute, supervise.FailTask, (*node).openSlots},
	}},
	// Without a usable config the sequence ends here: see maintenanceSequence.
	{"config", giveUp, []task{
		{"machine config", 5 * time.Minute, supervise.FailTask, (*node).loadConfig},
	}},
	{"kernel", goOn, []task{
		{"kernel settings", time.Minute, supervise.FailTask, (*node).applyKernelSettings},
	}},
	{"network", retry, []task{
		{"links and addresses", 3 * time.Minute, supervise.FailTask, (*node).bringUpNetwork},
	}},
	// Before the disk: a node whose disk is missing, broken or someone else's
	// can still be asked what is wrong.
	{"api", retry, []task{
		{"machined's API", 30 * time.Second, supervise.FailTask, (*node).serveAPI},
		{"apid", time.Minute, supervise.FailTask, (*node).startAPID},
	}},
	// A node that was booted from a medium restarts here.
	{"install", retry, []task{
		{"image", installDeadline, supervise.FailTask, (*node).installImage},
	}},
	{"storage", retry, []task{
		{"partitions", 35 * time.Minute, supervise.FailTask, (*node).openStorage},
		{"container modules", 2 * time.Minute, supervise.IgnorePanic, (*node).loadContainerModules},
	}},
	// A worker waits here for a control-plane node that lets it in.
	{"join", retry, []task{
		{"certificates", 24 * time.Hour, supervise.FailTask, (*node).joinCluster},
	}},
	{"containers", retry, []task{
		{"containerd", time.Minute, supervise.FailTask, (*node).startContainers},
		{"shutdown delays", 10 * time.Second, supervise.FailTask, (*node).serveLogind},
	}},
	{"balancer", retry, []task{
		{"way to the control plane", time.Minute, supervise.FailTask, (*node).startBalancer},
	}},
	{"etcd", retry, []task{
		{"etcd", time.Minute, supervise.FailTask, (*node).startEtcd},
	}},
	{"kubernetes", retry, []task{
		{"components", time.Minute, supervise.FailTask, (*node).startKubernetes},
	}},
}}

// maintenanceSequence follows a boot that found no usable config: the node gets
// an address, says on its console what is wrong, and waits to be asked. Nothing
// is written to a disk until someone does (osctl install).
var maintenanceSequence = sequence{name: "maintenance", phases: []phase{
	{"kernel", goOn, []task{
		{"kernel settings", time.Minute, supervise.FailTask, (*node).applyKernelSettings},
	}},
	{"network", retry, []task{
		{"links and addresses", 3 * time.Minute, supervise.FailTask, (*node).bringUpNetwork},
	}},
	{"api", retry, []task{
		{"machined's API", 30 * time.Second, supervise.FailTask, (*node).serveAPI},
		{"apid", time.Minute, supervise.FailTask, (*node).startMaintenanceAPID},
	}},
	{"pairing", goOn, []task{
		{"invitation", 10 * time.Second, supervise.IgnorePanic, (*node).showInvitation},
	}},
}}

// shutdownSequence takes the node down; main then powers the machine off.
var shutdownSequence = sequence{name: "shutdown", phases: slices.Concat(handOverPhases, downPhases)}

// rebootSequence is the same way; main then restarts the machine.
var rebootSequence = sequence{name: "reboot", phases: slices.Concat(handOverPhases, downPhases)}

// resetSequence also takes the node out of its cluster and makes it forget
// everything; main then restarts the machine. If the cluster cannot do without
// the node, it restarts as it was.
var resetSequence = sequence{name: "reset", phases: slices.Concat(
	handOverPhases,
	[]phase{{"cluster", giveUp, []task{
		{"membership", 3 * time.Minute, supervise.FailTask, (*node).leaveCluster},
	}}},
	downPhases,
	[]phase{{"wipe", goOn, []task{
		{"disk", overwriteTime, supervise.FailTask, (*node).wipeDisk},
	}}},
)}

// handOverPhases let others take over what this node does, while all of it still
// works. The deadlines of what pods are given are the longest that a config may
// ask for; its own hold inside.
var handOverPhases = []phase{
	{"drain", goOn, []task{
		{"pods elsewhere", 24*time.Hour + time.Minute, supervise.FailTask, (*node).drain},
	}},
	{"leadership", goOn, []task{
		{"etcd's", 15 * time.Second, supervise.FailTask, (*node).handOverEtcd},
		{"controllers'", time.Minute, supervise.FailTask, (*node).handOverControllers},
	}},
	{"pods", goOn, []task{
		{"their end", time.Hour + time.Minute, supervise.FailTask, (*node).endPods},
	}},
}

// downPhases stop at nothing: a machine that was told to stop does.
var downPhases = []phase{
	{"services", goOn, []task{
		{"services in reverse order", 3 * time.Minute, supervise.FailTask, (*node).stopServices},
	}},
	{"processes", goOn, []task{
		{"containers and orphans", 30 * time.Second, supervise.FailTask, (*node).endProcesses},
	}},
	{"network", goOn, []task{
		{"leases", 10 * time.Second, supervise.FailTask, (*node).closeNetwork},
	}},
	{"storage", goOn, []task{
		{"file systems", time.Minute, supervise.FailTask, (*node).closeStorage},
	}},
}

// node is the machine and what one stage hands to the next. A field is set by
// a task and read by those of later phases only; what the API reads at any time
// is in reports.
type node struct {
	life       context.Context // of what lasts until the machine stops
	watch      context.Context // of what follows the cluster, until unwatch
	unwatch    context.CancelFunc
	patience   context.Context // of the way down with its pods, until hurry
	hurry      context.CancelFunc
	os         host.OS
	log        *slog.Logger
	console    *console
	ownLog     *supervise.Log
	events     *api.Events
	reaper     *supervise.Reaper
	stops      chan stopRequest
	stop       stopRequest           // the one that is being done
	supervisor *supervise.Supervisor // from phase host
	server     *api.Server           // from phase api

	installing  *semaphore.Weighted   // held by the one installation
	installed   bool                  // guarded by installing: it is done, and the node restarts
	booted      install.Source        // from phase slots
	commandLine host.CommandLine      // from phase host
	modules     *host.Modules         // from phase host
	config      *machineconfig.Config // from phase config; nil in maintenance
	source      config.Source
	network     *network.Network       // from phase network
	networkOf   *machineconfig.Machine // what network was made from
	// kexecOff tells that the kernel that was loaded is not the next one any more.
	kexecOff atomic.Bool
	// updating tells that a caller is giving the node another image.
	updating atomic.Bool
	// slots is from phase slots; nil on a node that was not installed.
	slots       atomic.Pointer[upgrade.Upgrader]
	maintenance *api.Maintenance // in maintenance only
	storage     *storage.Storage // from phase storage
	join        *join.Join       // on workers only
	containers  *containers.Service
	logind      *logind.Server
	etcd        *etcd.Service
	balancer    *balancer.Service
	kubernetes  *kubernetes.Kubernetes
	clusterView atomic.Pointer[clusterView] // from phase kubernetes
	virtualIPs  <-chan struct{}             // closed when the node has given them up; nil without any

	reports
}
