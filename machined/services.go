package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/keelson-os/keelson/machined/api"
	"github.com/keelson-os/keelson/machined/balancer"
	"github.com/keelson-os/keelson/machined/containers"
	"github.com/keelson-os/keelson/machined/etcd"
	"github.com/keelson-os/keelson/machined/kubernetes"
	"github.com/keelson-os/keelson/machined/supervise"
	"github.com/keelson-os/keelson/pkg/machineconfig"
)

// What the node remembers of its cluster over reboots.
const (
	clusterDir       = "/var/lib/keelson"
	controlPlaneFile = clusterDir + "/control-plane.json"
	nodesFile        = clusterDir + "/nodes.json"
)

// startContainers starts containerd. Nobody waits for it here: kubelet depends
// on it.
func (n *node) startContainers(ctx context.Context) error {
	if n.containers == nil {
		made, err := containers.New(containers.Options{
			CNIUser: podNetworkUser(n.config), LookupUser: n.lookupUser, Registries: n.config.Machine.Registries,
		})
		if err != nil {
			return err
		}
		n.containers = made
		n.server.SetImages(made.ImageServer())
	}
	if err := n.start(ctx, n.containers.Spec()); err != nil {
		return err
	}
	n.background(n.life, "images of the OS image", supervise.IgnorePanic, n.importEmbedded)
	return nil
}

// importEmbedded has containerd import the images that the OS image was built with,
// beside everything else that starts.
func (n *node) importEmbedded(ctx context.Context) error {
	if archives, err := os.ReadDir(containers.EmbeddedDir); errors.Is(err, fs.ErrNotExist) || err == nil && len(archives) == 0 {
		return nil
	}
	err := n.supervisor.WaitHealthy(ctx, n.containers.Spec().Name)
	if err == nil {
		err = n.containers.ImportEmbedded(ctx)
	}
	if ctx.Err() != nil {
		return nil // the node goes down; the next boot goes on
	}
	return err
}

// startEtcd starts etcd, which waits in the supervisor for `osctl bootstrap` if
// there is no data yet.
func (n *node) startEtcd(ctx context.Context) error {
	if !n.isControlPlane() {
		return nil
	}
	if n.etcd == nil {
		ca, err := n.config.Secrets.EtcdCA.CA()
		if err != nil {
			return err
		}
		state := n.nodeState()
		n.etcd, err = etcd.New(etcd.Options{
			Hostname: state.Hostname, NodeIP: state.NodeIP, Config: n.config.Cluster.Etcd,
			Alone:     len(n.config.Cluster.ControlPlane.Addresses) <= 1,
			ClusterID: n.config.Secrets.ClusterID, CA: ca, Peers: n.controlPlaneHosts, Log: n.log, LookupUser: n.lookupUser, AdminUser: api.Front,
			StoreKeys: n.config.Secrets.SnapshotStore,
		})
		if err != nil {
			return err
		}
	}
	return n.start(ctx, n.etcd.Spec())
}

// startBalancer starts the node's own way to the Kubernetes API: whatever runs
// here reaches any control-plane node that works.
func (n *node) startBalancer(ctx context.Context) error {
	if n.balancer == nil {
		options := balancer.Options{
			ControlPlanes: n.config.Cluster.ControlPlane.Addresses, CA: []byte(n.config.Secrets.KubernetesCA.Cert),
			Keep: controlPlaneFile, LookupUser: n.lookupUser, Log: n.log,
		}
		if n.isControlPlane() {
			options.Local = n.nodeState().NodeIP
		}
		n.balancer = balancer.New(options)
	}
	return n.start(ctx, n.balancer.Spec())
}

// startKubernetes starts the components, which wait for etcd and each other in
// the supervisor, and what machined itself does in the cluster.
func (n *node) startKubernetes(ctx context.Context) error {
	if n.kubernetes == nil {
		state := n.nodeState()
		made, err := kubernetes.New(kubernetes.Options{
			Config: n.config, Hostname: state.Hostname, NodeIP: state.NodeIP, Nameservers: state.Nameservers,
			Endpoint: netip.MustParseAddrPort(balancer.Address), EndpointService: balancer.Name,
			NodesFile: nodesFile, Certificates: n.signed, LookupUser: n.lookupUser, Log: n.log,
		})
		if err != nil {
			return err
		}
		if n.isControlPlane() {
			if err := n.letOthersJoin(made); err != nil {
				return err
			}
		}
		n.kubernetes = made
		view := &clusterView{
			supervisor: n.supervisor, etcd: n.etcd, kubernetes: made,
			problems: func() []string { return n.Status().GetProblems() },
		}
		n.server.SetCluster(view)
		n.clusterView.Store(view)
		n.followCluster()
	}
	if n.isControlPlane() {
		if err := n.kubernetes.WriteAPIDKubeconfig(); err != nil {
			return err
		}
	}
	return n.start(ctx, n.kubernetes.Services()...)
}

// followCluster does what lasts as long as the node is one of a cluster.
func (n *node) followCluster() {
	tasks := map[string]func(context.Context){
		"Kubernetes API": n.kubernetes.FollowAPI,
		"node's state":   func(ctx context.Context) { n.kubernetes.WatchNode(ctx, n.nodeChanged()) },
		"control plane's addresses": func(ctx context.Context) {
			n.kubernetes.WatchControlPlane(ctx, n.controlPlaneChanged)
		},
	}
	if n.isControlPlane() {
		tasks["built-in manifests"] = n.kubernetes.Reconcile
		n.followVirtualIPs()
	} else {
		tasks["node's certificates"] = n.keepIdentity
	}
	for name, task := range tasks {
		n.background(n.watch, name, supervise.RestartTask, func(ctx context.Context) error {
			task(ctx)
			return nil
		})
	}
}

// controlPlaneHosts are where the control-plane nodes are, this one among them:
// those of the config, and those that the cluster told of.
func (n *node) controlPlaneHosts() []string {
	var hosts []string
	for _, upstream := range n.balancer.Upstreams() {
		if host, _, err := net.SplitHostPort(upstream); err == nil {
			hosts = append(hosts, host)
		}
	}
	return hosts
}

func (n *node) controlPlaneChanged(addresses []netip.AddrPort) {
	const part = "balancer"
	if err := n.balancer.SetUpstreams(addresses); err != nil {
		n.problem(part, err)
		return
	}
	n.solved(part)
}

// isControlPlane tells whether the node holds the cluster's keys.
func (n *node) isControlPlane() bool { return n.config.Machine.Type == machineconfig.ControlPlane }

// nodeChanged publishes what the cluster thinks of this node.
func (n *node) nodeChanged() func(kubernetes.Node) {
	reached := false
	return func(now kubernetes.Node) {
		switch {
		case !now.Ready:
			n.events.Publish(api.KindMachine, "node", "not ready", now.Message)
		case reached:
			n.events.Publish(api.KindMachine, "node", "ready", now.Message)
		default:
			reached = true
			n.events.Reached("node Ready", now.Message)
			n.log.Info("node Ready")
		}
	}
}

// clusterView is the cluster as several stages know it together.
type clusterView struct {
	supervisor *supervise.Supervisor
	etcd       *etcd.Service // nil on a worker
	kubernetes *kubernetes.Kubernetes
	// problems are the node's own: a phase that failed, a full disk.
	problems func() []string
}

// Bootstrap implements api.Cluster.
func (c *clusterView) Bootstrap(ctx context.Context) error {
	if c.etcd == nil {
		return errIsWorker
	}
	return c.etcd.Bootstrap(ctx)
}

var errIsWorker = errors.New("this node is a worker and has no etcd: ask a control-plane node")

// Kubeconfig implements api.Cluster.
func (c *clusterView) Kubeconfig(ctx context.Context, user string, roles []string, until time.Time) ([]byte, error) {
	if c.etcd == nil {
		return nil, errors.New("this node is a worker and cannot sign: ask a control-plane node")
	}
	return c.kubernetes.Kubeconfig(ctx, user, roles, until)
}

// Health implements api.Cluster.
func (c *clusterView) Health(ctx context.Context) []api.Check {
	node := api.Check{Name: "node", OK: true, Message: "no problems"}
	if problems := c.problems(); len(problems) > 0 {
		node.OK, node.Message = false, strings.Join(problems, "; ")
	}
	checks := []api.Check{node, serviceCheck(c.supervisor.List())}
	if c.etcd != nil {
		member := api.Check{Name: etcd.Name, OK: true, Message: "answers"}
		if err := c.etcd.Check(ctx); err != nil {
			member.OK, member.Message = false, err.Error()
		}
		checks = append(checks, member)
	}
	for _, check := range c.kubernetes.Health(ctx) {
		checks = append(checks, api.Check(check))
	}
	return checks
}

// serviceCheck sums the supervisor's list up. Services that only wait for
// others are named together: the reason stands with the others.
func serviceCheck(list []supervise.Status) api.Check {
	ready := map[string]bool{}
	for _, one := range list {
		ready[one.Name] = one.Ready()
	}
	var wrong, waiting []string
	for _, one := range list {
		unmet := slices.ContainsFunc(one.DependsOn, func(name string) bool { return !ready[name] })
		switch {
		case one.Ready():
		case one.State == supervise.Waiting && unmet:
			waiting = append(waiting, one.Name)
		default:
			wrong = append(wrong, strings.TrimSuffix(fmt.Sprintf("%s is %s: %s", one.Name, one.State, one.Message), ": "))
		}
	}
	if len(waiting) > 0 {
		wrong = append(wrong, strings.Join(waiting, ", ")+" waiting for these")
	}
	if len(wrong) > 0 {
		return api.Check{Name: "services", Message: strings.Join(wrong, "; ")}
	}
	return api.Check{Name: "services", OK: true, Message: fmt.Sprintf("%d healthy", len(list))}
}
