package flanneld

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"sync"
	"time"

	"github.com/flannel-io/flannel/pkg/backend"
	_ "github.com/flannel-io/flannel/pkg/backend/hostgw"    // "host-gw"
	_ "github.com/flannel-io/flannel/pkg/backend/vxlan"     // "vxlan"
	_ "github.com/flannel-io/flannel/pkg/backend/wireguard" // "wireguard"
	"github.com/flannel-io/flannel/pkg/ip"
	"github.com/flannel-io/flannel/pkg/lease"
	"github.com/flannel-io/flannel/pkg/subnet"
	"github.com/flannel-io/flannel/pkg/trafficmngr/nftables"
	"github.com/google/renameio/v2"
	"golang.org/x/sys/unix"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"
)

// endTimeout is what the backend gets to end by itself.
const endTimeout = 3 * time.Second

var errEnded = errors.New("the backend stopped following the nodes")

// run sets the network up, tells containerd of it and keeps it in step with
// the other nodes until ctx ends. The network itself stays when it returns.
func run(ctx context.Context, o options) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	config, err := readConfig(o.netConfig)
	if err != nil {
		return err
	}
	manager, err := newManager(ctx, o, config)
	if err != nil {
		return err
	}
	link, err := nodeLink(manager.view.address)
	if err != nil {
		return err
	}
	manager.view.reach = reachable(config.BackendType, link)
	if config.BackendType == wireGuard {
		if err := ensureKey(o.wireguardKey); err != nil {
			return err
		}
	}
	network, err := register(ctx, manager, link)
	if err != nil {
		return err
	}
	now, _ := manager.view.read(manager.nodes.list())
	if err := tidy(config, link, network, now); err != nil {
		return err
	}
	if err := masquerade(ctx, config, network.Lease()); err != nil {
		return err
	}
	text, err := conflist(network.Lease().Subnet.String(), network.MTU())
	if err != nil {
		return err
	}
	if err := renameio.WriteFile(o.cniConfig, text, 0o600); err != nil {
		return fmt.Errorf("write the CNI configuration: %w", err)
	}
	klog.InfoS("Pod network is up", "subnet", network.Lease().Subnet, "backend", config.BackendType, "link", link.Iface.Name, "mtu", network.MTU())
	return keep(ctx, cancel, network, manager.lost)
}

// readConfig reads flannel's own format.
func readConfig(file string) (*subnet.Config, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read the network config: %w", err)
	}
	config, err := subnet.ParseConfig(string(text))
	if err == nil && config.Network.Empty() {
		err = errors.New("it names no network")
	}
	if err != nil {
		return nil, fmt.Errorf("read the network config %s: %w", file, err)
	}
	return config, nil
}

// newManager returns once this node has a subnet.
func newManager(ctx context.Context, o options, config *subnet.Config) (*manager, error) {
	address, err := netip.ParseAddr(o.nodeIP)
	if err != nil {
		return nil, fmt.Errorf("read this node's address: %w", err)
	}
	if !address.Is4() {
		return nil, fmt.Errorf("this node's address is %s, and flannel carries pods between IPv4 addresses: give the node one, or set cluster.network.cni to none and bring another pod network", address)
	}
	access, err := clientcmd.BuildConfigFromFlags("", o.kubeconfig)
	if err != nil {
		return nil, err
	}
	client, err := kubernetes.NewForConfig(access)
	if err != nil {
		return nil, err
	}
	nodes, err := followNodes(ctx, client)
	if err != nil {
		return nil, err
	}
	if err := nodes.waitForSubnet(ctx, o.nodeName); err != nil {
		return nil, err
	}
	return &manager{
		config:   config,
		client:   client,
		nodes:    nodes,
		view:     view{node: o.nodeName, address: address, network: config.Network, backend: config.BackendType},
		problems: &problems{file: o.problems},
		lost:     make(chan error, 1),
	}, nil
}

// register makes this node's end of the network on the link.
func register(ctx context.Context, manager *manager, link *backend.ExternalInterface) (backend.Network, error) {
	kind := manager.config.BackendType
	chosen, err := backend.NewManager(ctx, manager, link).GetBackend(kind)
	if err != nil {
		return nil, fmt.Errorf("choose the backend: %w", err)
	}
	// The WireGuard backend removes its link when the context that it was made
	// with ends. Pods keep their network while this process is restarted, so
	// that context ends with ctx only as long as there is no network.
	life, cancel := context.WithCancel(context.WithoutCancel(ctx))
	detach := context.AfterFunc(ctx, cancel)
	var never sync.WaitGroup // what waits for the end of life
	network, err := chosen.RegisterNetwork(life, &never, manager.config)
	if err != nil {
		cancel()
		if errors.Is(err, unix.EOPNOTSUPP) {
			err = fmt.Errorf("%w (the kernel lacks the module that this backend needs: see osctl dmesg)", err)
		}
		return nil, fmt.Errorf("set up the %s network: %w", kind, err)
	}
	detach()
	return network, nil
}

// masquerade gives what pods send out of the network the node's address. What
// they send each other keeps its own, whatever node they are on.
func masquerade(ctx context.Context, config *subnet.Config, current *lease.Lease) error {
	var rules nftables.NFTablesManager
	if err := rules.Init(ctx); err != nil {
		return fmt.Errorf("make the nftables tables: %w", err)
	}
	// The rules of an earlier run are flushed with the chain: there is no
	// earlier network to name, and no loop that resyncs (zero seconds).
	err := rules.SetupAndEnsureMasqRules(ctx, config.Network, ip.IP4Net{}, ip.IP4Net{},
		config.IPv6Network, ip.IP6Net{}, ip.IP6Net{}, current, 0, false)
	if err != nil {
		return fmt.Errorf("write the masquerading rules: %w", err)
	}
	return nil
}

// keep runs the network until ctx ends, or it cannot go on.
func keep(ctx context.Context, cancel func(), network backend.Network, lost <-chan error) error {
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		network.Run(ctx)
	}()
	var err error
	select {
	case err = <-lost:
	case <-ctx.Done():
	case <-ended:
		// It ends by itself only because the manager did, which says why.
		select {
		case err = <-lost:
		default:
			err = errEnded
		}
	}
	if ctx.Err() != nil {
		err = nil
	}
	cancel()
	// A backend that is handing events on when it is told to stop may wait for
	// ever. The process ends, and it with it.
	select {
	case <-ended:
	case <-time.After(endTimeout):
	}
	return err
}
