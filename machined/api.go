package main

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/keelson-os/keelson/machined/api"
	"github.com/keelson-os/keelson/machined/host"
	"github.com/keelson-os/keelson/machined/supervise"
	"github.com/keelson-os/keelson/pkg/machineconfig"
)

// serveAPI serves machined's own API, to apid alone, until the machine stops.
func (n *node) serveAPI(context.Context) error {
	front, err := n.lookupUser(api.Front)
	if err != nil {
		return err
	}
	if n.supervisor == nil {
		return fmt.Errorf("no supervisor: phase host failed")
	}
	n.server = api.New(api.Options{
		Log: n.log, Node: n, Supervisor: n.supervisor, Events: n.events, Kernel: host.KernelLog,
	})
	listener, err := api.Listen(api.Socket, int(front.GID))
	if err != nil {
		return err
	}
	n.background(n.life, "machined's API", supervise.RestartTask, func(ctx context.Context) error {
		return n.server.Serve(ctx, listener)
	})
	return nil
}

// startAPID starts the node's front door. The boot does not wait for it: from
// here on the supervisor sees to it that it opens.
func (n *node) startAPID(ctx context.Context) error {
	user, err := n.lookupUser(api.Front)
	if err != nil {
		return err
	}
	ca, err := n.config.Secrets.OSCA.CA()
	if err != nil {
		return fmt.Errorf("read secrets.osCA: %w", err)
	}
	state := n.nodeState()
	spec := api.FrontSpec(api.FrontOptions{
		User: user, CA: ca, Names: []string{state.Hostname}, Addresses: addressesOf(state.Addresses, n.config.Cluster),
	})
	return n.start(ctx, spec)
}

// addressesOf are the addresses the node may be called by: its own, and those
// under which clients know the control plane (a forward, a load balancer).
func addressesOf(own []netip.Prefix, cluster *machineconfig.Cluster) []netip.Addr {
	var addresses []netip.Addr
	for _, prefix := range own {
		addresses = append(addresses, prefix.Addr())
	}
	for _, host := range cluster.ControlPlane.Addresses {
		if address, ok := host.Addr(); ok {
			addresses = append(addresses, address)
		}
	}
	addresses = append(addresses, cluster.ControlPlane.VirtualIPs...)
	slices.SortFunc(addresses, netip.Addr.Compare)
	return slices.Compact(addresses)
}

// startMaintenanceAPID starts the front door of a node without a config, and
// waits for it: nobody is invited before it is open.
func (n *node) startMaintenanceAPID(ctx context.Context) error {
	user, err := n.lookupUser(api.Front)
	if err != nil {
		return err
	}
	if n.maintenance == nil {
		if n.maintenance, err = api.NewMaintenance(); err != nil {
			return err
		}
	}
	if err := n.start(ctx, api.MaintenanceSpec(user, n.maintenance)); err != nil {
		return err
	}
	return n.supervisor.WaitHealthy(ctx, api.Front)
}

// showInvitation says on the console, and only there, what a client of this
// node's maintenance API needs: who can read it stands at the machine. The
// pairing code goes into no log.
func (n *node) showInvitation(context.Context) error {
	_, err := fmt.Fprint(n.console, invitation(n.Status().GetProblems(), n.nodeState().Addresses, n.maintenance))
	return err
}

func invitation(problems []string, addresses []netip.Prefix, m *api.Maintenance) string {
	var b strings.Builder
	b.WriteString("\nThis node is in maintenance: it has no usable config.\n")
	for _, problem := range problems {
		fmt.Fprintf(&b, "  %s\n", problem)
	}
	for _, address := range addresses {
		fmt.Fprintf(&b, "API:          %s\n", netip.AddrPortFrom(address.Addr(), api.FrontPort))
	}
	fmt.Fprintf(&b, "Fingerprint:  %s\n", m.Fingerprint)
	fmt.Fprintf(&b, "Pairing code: %s\n\n", m.PairingCode)
	return b.String()
}
