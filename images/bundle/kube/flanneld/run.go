package flanneld

import (
	"context"
	"fmt"
	"os"
	"sync"

	"github.com/flannel-io/flannel/pkg/backend"
	_ "github.com/flannel-io/flannel/pkg/backend/hostgw"    // "host-gw"
	_ "github.com/flannel-io/flannel/pkg/backend/vxlan"     // "vxlan"
	_ "github.com/flannel-io/flannel/pkg/backend/wireguard" // "wireguard"
	"github.com/flannel-io/flannel/pkg/ip"
	"github.com/flannel-io/flannel/pkg/ipmatch"
	"github.com/flannel-io/flannel/pkg/lease"
	"github.com/flannel-io/flannel/pkg/subnet"
	"github.com/flannel-io/flannel/pkg/subnet/kube"
	"github.com/flannel-io/flannel/pkg/trafficmngr/nftables"
	"github.com/google/renameio/v2"
	"k8s.io/klog/v2"
)

// annotationPrefix begins the annotations in which nodes tell each other their
// tunnels' ends; flannel's own default, so that its documentation holds.
const annotationPrefix = "flannel.alpha.coreos.com"

// run sets the network up, tells containerd of it and keeps it in step with
// the other nodes until ctx ends. The network itself stays when it returns.
func run(ctx context.Context, o options) error {
	if err := waitForSubnet(ctx, o.kubeconfig, o.nodeName); err != nil {
		return fmt.Errorf("wait for the subnet of node %s: %w", o.nodeName, err)
	}
	// The package takes the node's name from its environment and no other way.
	if err := os.Setenv("NODE_NAME", o.nodeName); err != nil {
		return err
	}
	// flannel's goroutines end with this context, and are waited for.
	ctx, cancel := context.WithCancel(ctx)
	var tasks sync.WaitGroup
	defer tasks.Wait()
	defer cancel()

	// The last argument: no cloud marks our nodes' network as unavailable.
	manager, err := kube.NewSubnetManager(ctx, "", o.kubeconfig, annotationPrefix, o.netConfig, false)
	if err != nil {
		return fmt.Errorf("follow the nodes: %w", err)
	}
	config, err := manager.GetNetworkConfig(ctx)
	if err != nil {
		return fmt.Errorf("read the network config: %w", err)
	}
	network, err := register(ctx, &tasks, manager, config, o.nodeIP)
	if err != nil {
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
	klog.InfoS("Pod network is up", "subnet", network.Lease().Subnet, "backend", config.BackendType, "mtu", network.MTU())
	network.Run(ctx)
	return nil
}

// register makes this node's end of the network, on the link that has address.
func register(ctx context.Context, tasks *sync.WaitGroup, manager subnet.Manager, config *subnet.Config, address string) (backend.Network, error) {
	family, err := ipmatch.GetIPFamily(config.EnableIPv4, config.EnableIPv6)
	if err != nil {
		return nil, fmt.Errorf("read the network config: %w", err)
	}
	link, err := ipmatch.LookupExtIface(address, "", "", family, ipmatch.PublicIPOpts{PublicIP: address})
	if err != nil {
		return nil, fmt.Errorf("find the link with address %s: %w", address, err)
	}
	chosen, err := backend.NewManager(ctx, manager, link).GetBackend(config.BackendType)
	if err != nil {
		return nil, fmt.Errorf("choose the backend: %w", err)
	}
	network, err := chosen.RegisterNetwork(ctx, tasks, config)
	if err != nil {
		return nil, fmt.Errorf("set up the %s network: %w", config.BackendType, err)
	}
	return network, nil
}

// masquerade gives what pods send out of the network the node's address.
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
