package provision

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"

	"golang.org/x/sync/errgroup"

	"github.com/keelson-os/keelson/pkg/provision/vnet"
)

// RunNetwork is a cluster's network process: it runs the network of the
// cluster in folder dir until ctx ends. Nodes find it again when it is restarted.
// It logs to standard error, which its starter sent to a file.
func RunNetwork(ctx context.Context, dir string) error {
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	s, err := readSpec(dir)
	if err != nil {
		return err
	}
	if err := makeRuntimeDir(s.RuntimeDir); err != nil {
		return fmt.Errorf("make the folder for sockets: %w", err)
	}
	// One network process at a time. systemd-tmpfiles, too, respects the lock
	// and does not clean a locked folder in /tmp.
	lockCtx, cancel := context.WithTimeout(ctx, killTimeout)
	defer cancel()
	unlock, err := lockDir(lockCtx, s.RuntimeDir)
	if err != nil {
		return err
	}
	defer unlock()
	n, err := newNetwork(dir, s, log)
	if err != nil {
		return err
	}
	log.Info("network is up", "cluster", s.Name, "subnet", s.Subnet, "internet", s.Internet)
	return n.run(ctx)
}

// network is what runs in a network process.
type network struct {
	dir      string
	spec     spec
	log      *slog.Logger
	sw       *vnet.Switch
	faults   *faults
	gateway  *vnet.Gateway
	boot     *bootServer // nil if machines do not boot over the network
	forwards []forward
	control  net.Listener
}

// newNetwork opens everything that can fail.
func newNetwork(dir string, s spec, log *slog.Logger) (*network, error) {
	n := &network{dir: dir, spec: s, log: log, sw: vnet.NewSwitch()}
	var leases []vnet.Lease
	for _, node := range s.Nodes {
		mac, err := net.ParseMAC(node.MAC)
		if err != nil {
			return nil, fmt.Errorf("node %s: %w", node.Name, err)
		}
		leases = append(leases, vnet.Lease{MAC: mac, IP: node.IP, Name: node.Name})
	}
	var err error
	if n.faults, err = openFaults(dir, s.Nodes, n.sw); err != nil {
		return nil, err
	}
	if n.forwards, err = listenForwards(dir, s.Nodes); err != nil {
		return nil, err
	}
	if n.control, err = listenControl(s.RuntimeDir); err != nil {
		closeForwards(n.forwards)
		return nil, err
	}
	n.gateway, err = vnet.NewGateway(n.sw, vnet.GatewayOptions{
		Addr:     netip.PrefixFrom(s.gateway(), s.Subnet.Bits()),
		Leases:   leases,
		Domain:   s.domain(),
		Internet: s.Internet,
		Log:      log,
	})
	if err != nil {
		closeForwards(n.forwards)
		n.control.Close()
		return nil, fmt.Errorf("make the gateway: %w", err)
	}
	if n.boot, err = newBootServer(dir, s, n.sw, log); err != nil {
		n.gateway.Close()
		closeForwards(n.forwards)
		n.control.Close()
		return nil, err
	}
	return n, nil
}

func (n *network) run(ctx context.Context) error {
	group, groupCtx := errgroup.WithContext(ctx)
	group.Go(func() error { return n.gateway.Run(groupCtx) })
	if n.boot != nil {
		group.Go(func() error { return n.boot.run(groupCtx) })
	}
	for _, f := range n.forwards {
		group.Go(func() error { return n.gateway.Forward(groupCtx, f.listener, f.to) })
	}
	for _, node := range n.spec.Nodes {
		group.Go(func() error {
			return vnet.KeepConnected(groupCtx, n.sw, node.Name, netSocket(n.spec.RuntimeDir, node.Number), n.log)
		})
	}
	group.Go(func() error { return serveControl(groupCtx, n.control, n.sw, n.faults) })
	group.Go(func() error { return keepShort(groupCtx, growing(n.dir, n.spec.Nodes), n.log) })
	if err := group.Wait(); ctx.Err() == nil {
		return fmt.Errorf("network of cluster %s: %w", n.spec.Name, err)
	}
	return nil
}

// listenControl listens for commands. The folder is the user's alone, and the
// lock on it says that a socket left there is nobody's.
func listenControl(runtimeDir string) (net.Listener, error) {
	path := filepath.Join(runtimeDir, controlSocketName)
	if err := os.RemoveAll(path); err != nil {
		return nil, err
	}
	listener, err := net.Listen("unix", path)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, 0o600); err != nil {
		listener.Close()
		return nil, err
	}
	return listener, nil
}
