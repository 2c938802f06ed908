package network

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/keelson-os/keelson/machined/host"
	"github.com/keelson-os/keelson/machined/supervise"
	"github.com/keelson-os/keelson/pkg/machineconfig"
)

// EtcDir is where the node's name and resolver files are; links in /etc lead
// there.
const EtcDir = "/run/keelson/etc"

// addressDeadline is how long Up waits for an address before it says so. Switch
// ports with spanning tree need half a minute before they pass anything.
const addressDeadline = 90 * time.Second

// Options of Up.
type Options struct {
	// Machine is this node's config; nil in maintenance mode, where every
	// network card asks DHCP.
	Machine *machineconfig.Machine
	// OS sets the host name.
	OS host.OS
	// Dir takes resolv.conf, hosts and hostname; empty means EtcDir.
	Dir string
	// Deadline for the first address; zero means 90 s.
	Deadline time.Duration
	Log      *slog.Logger
}

// Network keeps the node's links as they shall be until Close.
type Network struct {
	options Options
	stop    context.CancelFunc
	running sync.WaitGroup

	mu      sync.Mutex
	links   []*linkState
	state   State
	named   bool          // the host name is settled
	changed chan struct{} // closed and replaced when the state changes
}

// NoAddressError says that no link has an address yet. The network keeps trying:
// see Wait.
type NoAddressError struct {
	Links []string
	After time.Duration
}

func (e *NoAddressError) Error() string {
	if len(e.Links) == 0 {
		return "no network card: add one, or its driver's module to machine.kernel.modules"
	}
	return fmt.Sprintf("no address for %s after %s: check the cable and the DHCP server, or set machine.network.interfaces",
		strings.Join(e.Links, ", "), e.After)
}

// Up switches the links on and waits until the node has an address. When ctx or
// the deadline ends first, it returns a *NoAddressError with a network that
// keeps trying; with any other error there is none. A *FieldError names a
// setting that cannot be fulfilled.
func Up(ctx context.Context, options Options) (*Network, error) {
	if options.Dir == "" {
		options.Dir = EtcDir
	}
	if options.Deadline == 0 {
		options.Deadline = addressDeadline
	}
	if err := os.MkdirAll(options.Dir, 0o755); err != nil {
		return nil, err
	}
	here, err := listLinks()
	if err != nil {
		return nil, err
	}
	settings, err := settingsFor(options.Machine, here)
	if err != nil {
		return nil, err
	}
	if err := raiseLink("lo", 0); err != nil {
		return nil, err
	}
	if err := addDNSLink(); err != nil {
		return nil, err
	}
	running, stop := context.WithCancel(context.Background())
	n := &Network{options: options, stop: stop, changed: make(chan struct{})}
	if err := n.start(running, settings, here); err != nil {
		return nil, errors.Join(err, n.Close())
	}
	waiting, cancel := context.WithTimeout(ctx, options.Deadline)
	defer cancel()
	if _, err := n.Wait(waiting); err != nil {
		return n, n.noAddress()
	}
	return n, nil
}

// start sets the fixed addresses and starts a DHCP client where one is wanted.
func (n *Network) start(ctx context.Context, settings []linkSettings, here []linkInfo) error {
	macs := map[string]string{}
	for _, link := range here {
		macs[link.name] = link.mac
	}
	plugged := map[string]chan struct{}{}
	for i, s := range settings {
		link := &linkState{settings: s, order: i, mac: macs[s.name]}
		n.links = append(n.links, link)
		if s.dhcp {
			plugged[s.name] = make(chan struct{}, 1)
		}
	}
	// Before the links go up, so that no change is missed.
	if err := n.watchLinks(ctx, plugged); err != nil {
		return err
	}
	for i, link := range n.links {
		s := link.settings
		if err := raiseLink(s.name, s.mtu); err != nil {
			return err
		}
		if err := setFixed(s, i); err != nil {
			return err
		}
	}
	n.update(func() {})
	for _, link := range n.links {
		if !link.settings.dhcp {
			continue
		}
		client := dhcpClient{
			link:    link.settings.name,
			log:     n.options.Log.With("link", link.settings.name),
			plugged: plugged[link.settings.name],
			changed: func(l *lease) { n.leaseChanged(link, l) },
		}
		n.background(ctx, "DHCP on "+client.link, client.run)
	}
	return nil
}

// background runs a part until ctx ends; Close waits for it. It handles what
// strangers sent: a panic must not end PID 1, nor the lease.
func (n *Network) background(ctx context.Context, name string, part func(context.Context)) {
	task := func(ctx context.Context) error { part(ctx); return nil }
	n.running.Go(func() {
		if err := supervise.Protect(ctx, n.options.Log, name, supervise.RestartTask, task); err != nil {
			n.options.Log.Error("a part of the network stage ended", "part", name, "error", err)
		}
	})
}

// setFixed gives a link the addresses and the gateway of the config. An address
// that DHCP gave in maintenance mode stays until the new lease is there.
func setFixed(s linkSettings, order int) error {
	set := setAddresses
	if s.dhcp {
		set = addAddresses
	}
	if err := set(s.name, s.addresses); err != nil || !s.gateway.IsValid() {
		return err
	}
	to := anywhere
	if s.gateway.Is6() {
		to = netip.PrefixFrom(netip.IPv6Unspecified(), 0)
	}
	return setRoute(s.name, route{to, s.gateway}, netip.Addr{}, staticMetric+order, protocolStatic)
}

// watchLinks tells the channels when their link gets its carrier.
func (n *Network) watchLinks(ctx context.Context, plugged map[string]chan struct{}) error {
	updates := make(chan netlink.LinkUpdate, 16)
	err := netlink.LinkSubscribeWithOptions(updates, ctx.Done(), netlink.LinkSubscribeOptions{
		ErrorCallback: func(err error) {
			if ctx.Err() == nil {
				n.options.Log.Error("link changes are no longer seen; leases are still renewed in time", "error", err)
			}
		},
	})
	if err != nil {
		return fmt.Errorf("watch the network links: %w", err)
	}
	n.background(ctx, "link changes", func(context.Context) {
		carrier := map[string]bool{}
		// The channel is closed once ctx ends.
		for update := range updates {
			name, up := update.Attrs().Name, hasCarrier(update.Link)
			if plugged[name] == nil {
				continue // every pod's link comes by here: they must not pile up
			}
			if up && !carrier[name] {
				select {
				case plugged[name] <- struct{}{}:
				default: // told already
				}
			}
			carrier[name] = up
		}
	})
	return nil
}

// leaseChanged brings the link in line with its new lease, or with none.
func (n *Network) leaseChanged(link *linkState, l *lease) {
	log := n.options.Log.With("link", link.settings.name)
	if err := applyLease(link, l); err != nil {
		log.Error("the lease is not in force", "error", err)
	}
	n.update(func() { link.lease = l })
}

func applyLease(link *linkState, l *lease) error {
	name := link.settings.name
	if l == nil {
		return setAddresses(name, link.settings.addresses)
	}
	if link.settings.mtu == 0 && l.mtu > 0 {
		if err := raiseLink(name, l.mtu); err != nil {
			return err
		}
	}
	if err := setAddresses(name, append([]netip.Prefix{l.address}, link.settings.addresses...)); err != nil {
		return err
	}
	var failed []error
	for _, r := range l.routes {
		failed = append(failed, setRoute(name, r, l.address.Addr(), dhcpMetric+link.order, protocolDHCP))
	}
	return errors.Join(failed...)
}

// update changes the links' states and publishes what follows from it.
func (n *Network) update(change func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	change()
	hostname := ""
	var nameservers []netip.Addr
	if n.options.Machine != nil {
		hostname, nameservers = n.options.Machine.Hostname, n.options.Machine.Network.Nameservers
	}
	if n.named {
		hostname = n.state.Hostname
	}
	before := n.state
	n.state = stateOf(n.links, hostname, nameservers)
	if before.NodeIP.IsValid() && before.NodeIP != n.state.NodeIP {
		n.options.Log.Warn("the node's address changed; services keep the old one until they restart", "from", before.NodeIP, "to", n.state.NodeIP)
	}
	if n.state.NodeIP.IsValid() && !n.named {
		n.settleName()
	}
	if err := writeEtc(n.options.Dir, n.state); err != nil {
		n.options.Log.Error("name resolution is out of date", "error", err)
	}
	close(n.changed)
	n.changed = make(chan struct{})
}

// settleName gives the kernel the host name, for good: Kubernetes knows the node
// by it, so a later lease does not change it.
func (n *Network) settleName() {
	if err := n.options.OS.SetHostname(n.state.Hostname); err != nil {
		n.options.Log.Error("the host name is not set", "hostname", n.state.Hostname, "error", err)
	}
	n.named = true
}

// State is how the network is now, and a channel that is closed when that
// changes.
func (n *Network) State() (State, <-chan struct{}) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.state, n.changed
}

// Wait returns the state as soon as the node has an address, or ctx's error.
func (n *Network) Wait(ctx context.Context) (State, error) {
	for {
		state, changed := n.State()
		if state.NodeIP.IsValid() {
			return state, nil
		}
		select {
		case <-ctx.Done():
			return state, ctx.Err()
		case <-changed:
		}
	}
}

func (n *Network) noAddress() error {
	e := &NoAddressError{After: n.options.Deadline}
	for _, link := range n.links {
		e.Links = append(e.Links, link.settings.name)
	}
	return e
}

// Close stops renewing leases and waits for the goroutines that did. Addresses
// and links stay as they are.
func (n *Network) Close() error {
	n.stop()
	n.running.Wait()
	return nil
}
