package main

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"unicode"

	"github.com/keelson-os/keelson/machined/api"
	"github.com/keelson-os/keelson/machined/host"
	"github.com/keelson-os/keelson/machined/storage"
	"github.com/keelson-os/keelson/machined/supervise"
	joinpb "github.com/keelson-os/keelson/pkg/api/join"
	"github.com/keelson-os/keelson/pkg/machineconfig"
	"github.com/keelson-os/keelson/pkg/pki"
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
		Log: n.log, Node: n, Supervisor: n.supervisor, Events: n.events, Kernel: host.KernelLog, Installer: n,
	})
	if n.slots.Load() != nil {
		n.server.SetUpgrader(slotsView{n})
	}
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
// here on the supervisor sees to it that it opens. A worker has no certificate
// for it yet: see joinCluster.
func (n *node) startAPID(ctx context.Context) error {
	if !n.isControlPlane() {
		spec, err := n.maintenanceSpec()
		if err != nil {
			return err
		}
		return n.start(ctx, spec)
	}
	front, err := n.frontOptions()
	if err != nil {
		return err
	}
	return n.start(ctx, api.FrontSpec(front))
}

// frontOptions say who apid is on a node of a cluster.
func (n *node) frontOptions() (api.FrontOptions, error) {
	user, err := n.lookupUser(api.Front)
	if err != nil {
		return api.FrontOptions{}, err
	}
	if !n.isControlPlane() {
		return api.FrontOptions{
			User: user, CACert: []byte(n.config.Secrets.OSCA.Cert),
			Pair: func() (pki.KeyPair, error) { return n.signed(joinpb.CertificateRequest_USE_API_SERVER) },
		}, nil
	}
	ca, err := n.config.Secrets.OSCA.CA()
	if err != nil {
		return api.FrontOptions{}, fmt.Errorf("read secrets.osCA: %w", err)
	}
	state := n.nodeState()
	var controlPlanes []netip.Addr
	for _, host := range n.config.Cluster.ControlPlane.Addresses {
		if address, ok := host.Addr(); ok {
			controlPlanes = append(controlPlanes, address)
		}
	}
	return api.FrontOptions{
		User: user, CA: ca, Hostname: state.Hostname, ControlPlanes: controlPlanes, Names: append([]string{state.Hostname}, namesOf(n.config.Cluster)...), Addresses: addressesOf(state.Addresses, n.config.Cluster),
	}, nil
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

// namesOf are the DNS names under which others know the control plane.
func namesOf(cluster *machineconfig.Cluster) []string {
	var names []string
	for _, host := range cluster.ControlPlane.Addresses {
		if _, ok := host.Addr(); !ok {
			names = append(names, string(host))
		}
	}
	return names
}

// startMaintenanceAPID starts the front door of a node without a config, and
// waits for it: nobody is invited before it is open.
func (n *node) startMaintenanceAPID(ctx context.Context) error {
	spec, err := n.maintenanceSpec()
	if err != nil {
		return err
	}
	if err := n.start(ctx, spec); err != nil {
		return err
	}
	return n.supervisor.WaitHealthy(ctx, api.Front)
}

func (n *node) maintenanceSpec() (supervise.Spec, error) {
	user, err := n.lookupUser(api.Front)
	if err != nil {
		return supervise.Spec{}, err
	}
	if n.maintenance == nil {
		if n.maintenance, err = api.NewMaintenance(); err != nil {
			return supervise.Spec{}, err
		}
	}
	return api.MaintenanceSpec(user, n.maintenance), nil
}

// showInvitation says on the console, and only there, what a client of this
// node's maintenance API needs: who can read it stands at the machine. The
// pairing code goes into no log.
func (n *node) showInvitation(context.Context) error {
	why := "This node is in maintenance: it has no usable config."
	if n.config != nil {
		why = "This node has not joined its cluster yet; it keeps trying."
	}
	_, err := fmt.Fprint(n.console, invitation(why, n.Status().GetProblems(), n.nodeState().Addresses, n.describeDisks(), n.maintenance))
	return err
}

// describeDisks says what disks there are and what is on them. Whoever stands at
// the machine chooses one; without a config none of them is in use.
func (n *node) describeDisks() []string {
	if n.config != nil {
		return nil
	}
	disks, err := storage.ListDisks(n.os.Root(), n.medium())
	if err != nil {
		return []string{err.Error()}
	}
	var lines []string
	for i, content := range diskContents(disks) {
		// A disk says of itself what it likes, and this is a terminal.
		lines = append(lines, strings.Map(printable, storage.Describe(disks[i])+": "+content))
	}
	return lines
}

func printable(r rune) rune {
	if !unicode.IsPrint(r) {
		return '?'
	}
	return r
}

func invitation(why string, problems []string, addresses []netip.Prefix, disks []string, m *api.Maintenance) string {
	var b strings.Builder
	fmt.Fprintf(&b, "\n%s\n", why)
	for _, problem := range problems {
		fmt.Fprintf(&b, "  %s\n", problem)
	}
	for _, address := range addresses {
		fmt.Fprintf(&b, "API:          %s\n", netip.AddrPortFrom(address.Addr(), api.FrontPort))
	}
	for _, disk := range disks {
		fmt.Fprintf(&b, "Disk:         %s\n", disk)
	}
	fmt.Fprintf(&b, "Fingerprint:  %s\n", m.Fingerprint)
	fmt.Fprintf(&b, "Pairing code: %s\n\n", m.PairingCode)
	return b.String()
}
