package kubernetes

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/keelson-os/keelson/machined/supervise"
	"github.com/keelson-os/keelson/pkg/machineconfig"
	"github.com/keelson-os/keelson/pkg/pki"
	"github.com/keelson-os/keelson/pkg/secretdir"
)

// Names of the services, their users (but kubelet's, which is root) and their
// programs in /usr/bin (but flannel's).
const (
	APIServer         = "kube-apiserver"
	ControllerManager = "kube-controller-manager"
	Scheduler         = "kube-scheduler"
	Kubelet           = "kubelet"
	KubeProxy         = "kube-proxy"
	Flannel           = "flannel"
	CoreDNS           = "coredns"
	MetricsServer     = "metrics-server"
	LocalPath         = "local-path-provisioner"
)

// Services of other stages that ours depend on.
const (
	etcd       = "etcd"
	containerd = "containerd"
)

// DNSAddress is where every node answers its pods' DNS questions: the address
// that NodeLocal DNSCache made customary. One in the service subnet would be
// dropped by kube-proxy on its way from a host process.
const DNSAddress = "169.254.20.10"

// Options is what the node's components are made from.
type Options struct {
	Config   *machineconfig.Config
	Hostname string
	NodeIP   netip.Addr
	// Nameservers outside the cluster; none means that only the cluster's own
	// names resolve.
	Nameservers []netip.Addr
	// LookupUser finds the services' users.
	LookupUser func(name string) (supervise.User, error)
	Log        *slog.Logger

	// Root is put before every path; empty on a node.
	Root string
	// APIPort and EtcdPort; zero means 6443 and 2379.
	APIPort, EtcdPort int
	// Endpoint is where this node's processes reach the cluster's API, and
	// EndpointService the service that they reach it through. Not set: this
	// node's own API server.
	Endpoint        netip.AddrPort
	EndpointService string
	// Certificates are a worker's; a control-plane node mints its own.
	Certificates Certificates
	// NodesFile remembers the cluster's nodes over a reboot; empty: nothing does.
	NodesFile string
}

// Kubernetes is this node's part of the cluster.
type Kubernetes struct {
	options Options
	// The cluster's authorities.
	ca, etcdCA, aggregatorCA *pki.CA
	api                      *client
	own                      string // URL of this node's API server, as the node itself reaches it
	manifests                []manifest

	// serving and ready are of the cluster's API, as this node reaches it. lost
	// says that it may not answer any more.
	serving, ready *milestone
	lost           chan struct{}
	ownReady       *milestone // of this node's API server, since its last start
	// granted: the built-in manifests are in the cluster. Until then flannel and
	// CoreDNS would be refused what they ask for, and back off for long.
	granted *milestone
	started time.Time

	// cordoning is held while the node is cordoned or uncordoned: a drain that
	// begins meanwhile must see what came of it.
	cordoning sync.Mutex

	mu         sync.Mutex
	node       Node
	nodes      map[string]ClusterNode
	keptNodes  []byte // in NodesFile; of WatchNode's goroutine alone
	reconciled error  // of the last round; errNotYet before the first
	leaving    bool   // the node goes down: it was asked to drain
}

// New checks that the node holds what its type needs. It touches neither disk
// nor network.
func New(options Options) (*Kubernetes, error) {
	if options.APIPort == 0 {
		options.APIPort = 6443
	}
	if options.EtcdPort == 0 {
		options.EtcdPort = 2379
	}
	k := &Kubernetes{
		options: options, started: time.Now(), reconciled: errNotYet, nodes: map[string]ClusterNode{},
		serving: newMilestone(), ready: newMilestone(), ownReady: newMilestone(), granted: newMilestone(),
		lost: make(chan struct{}, 1),
	}
	if err := k.readKeys(); err != nil {
		return nil, err
	}
	roots, err := pki.ParseCert(k.caCert())
	if err != nil {
		return nil, fmt.Errorf("secrets.kubernetesCA: %w", err)
	}
	k.own = "https://" + netip.AddrPortFrom(loopback, uint16(options.APIPort)).String()
	k.api = newClient(roots, k.endpoint(), k.identity)
	return k, nil
}

// readKeys reads what only a control-plane node holds.
func (k *Kubernetes) readKeys() error {
	if k.isWorker() {
		if k.options.Certificates == nil {
			return errors.New("a worker needs the certificates that it was signed")
		}
		// The control plane grants what they ask for before a worker can join.
		k.granted.reach()
		return nil
	}
	secrets := k.options.Config.Secrets
	var errs []error
	for _, each := range []struct {
		name string
		pair machineconfig.KeyPair
		ca   **pki.CA
	}{
		{"secrets.kubernetesCA", secrets.KubernetesCA, &k.ca},
		{"secrets.etcdCA", secrets.EtcdCA, &k.etcdCA},
		{"secrets.aggregatorCA", secrets.AggregatorCA, &k.aggregatorCA},
	} {
		var err error
		if *each.ca, err = each.pair.CA(); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", each.name, err))
		}
	}
	var err error
	if k.manifests, err = k.builtIn(); err != nil {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// Services describes every component to the supervisor.
func (k *Kubernetes) Services() []supervise.Spec {
	node := []supervise.Spec{k.kubelet(), k.kubeProxy(), k.coreDNS(), k.localPath()}
	if k.hasFlannel() {
		node = slices.Insert(node, 2, k.flannel())
	}
	if k.isWorker() {
		return node
	}
	return slices.Concat([]supervise.Spec{k.apiServer(), k.controllerManager(), k.scheduler()}, node, []supervise.Spec{k.metricsServer()})
}

// path returns where a path of a node is.
func (k *Kubernetes) path(elements ...string) string {
	return filepath.Join(append([]string{k.options.Root, "/"}, elements...)...)
}

// secrets returns the path of a service's secrets folder, or of a file in it.
func (k *Kubernetes) secrets(service string, file ...string) string {
	return k.path(append([]string{"run/keelson/secrets", service}, file...)...)
}

// config returns the path of a service's config folder, or of a file in it.
func (k *Kubernetes) config(service string, file ...string) string {
	return k.path(append([]string{"run/keelson/config", service}, file...)...)
}

// rendered is what a service's folders hold, by file name.
type rendered struct {
	secrets, config map[string][]byte
}

// prepare makes the Prepare function of a service from what renders its files.
func (k *Kubernetes) prepare(service, user string, render func() (rendered, error)) func(context.Context) error {
	return func(context.Context) error {
		files, err := render()
		if err != nil {
			return fmt.Errorf("render the files of %s: %w", service, err)
		}
		owner, err := k.owner(user)
		if err != nil {
			return err
		}
		if err := secretdir.Write(k.secrets(service), owner, files.secrets); err != nil {
			return err
		}
		if files.config == nil {
			return nil
		}
		return secretdir.Write(k.config(service), owner, files.config)
	}
}

func (k *Kubernetes) owner(user string) (secretdir.Owner, error) {
	found, err := k.options.LookupUser(user)
	if err != nil {
		return secretdir.Owner{}, fmt.Errorf("find user %q: %w", user, err)
	}
	return secretdir.Owner{UID: int(found.UID), GID: int(found.GID)}, nil
}
