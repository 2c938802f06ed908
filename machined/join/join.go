package join

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"time"

	joinpb "github.com/keelson-os/keelson/pkg/api/join"
	"github.com/keelson-os/keelson/pkg/machineconfig"
	"github.com/keelson-os/keelson/pkg/pki"
)

// Options are what a worker joins with.
type Options struct {
	// Config names the control-plane nodes and holds the token and the
	// certificates of the authorities.
	Config    *machineconfig.Config
	Hostname  string
	MachineID string
	// Addresses are the node's own; only those that others can reach count.
	Addresses []netip.Addr
	// Port is where control-plane nodes let others join.
	Port uint16
	// Dir is where the identity is kept; empty means Dir.
	Dir string
	// Report hears what is wrong, whenever that changes; nil means nothing is.
	Report func(error)
	Log    *slog.Logger
}

// Join gets a worker its identity and keeps it valid.
type Join struct {
	options Options
	owner   owner
	by      authorities
	ask     func(context.Context) (*Identity, error) // one round

	mu       sync.Mutex
	current  *Identity
	unsaved  bool
	reported string
}

// New checks what the node joins with. It touches neither disk nor network.
func New(options Options) (*Join, error) {
	if options.Dir == "" {
		options.Dir = Dir
	}
	secrets, hosts := options.Config.Secrets, options.Config.Cluster.ControlPlane.Addresses
	if len(hosts) == 0 {
		return nil, errors.New("cluster.controlPlane.addresses names nobody to ask")
	}
	by, err := newAuthorities(secrets)
	if err != nil {
		return nil, err
	}
	j := &Join{options: options, by: by, owner: owner{
		clusterID: secrets.ClusterID, hostname: options.Hostname, machineID: options.MachineID,
		addresses: reachable(options.Addresses),
	}}
	c := &client{owner: j.owner, token: string(secrets.JoinToken), hosts: hosts, port: options.Port, by: by}
	j.ask = c.join
	return j, nil
}

// reachable are the addresses that others can reach the node by, each once and
// in an order of their own: the network may tell them in another at every boot.
func reachable(addresses []netip.Addr) []netip.Addr {
	var list []netip.Addr
	for _, address := range addresses {
		if address = address.Unmap(); usable(address) {
			list = append(list, address)
		}
	}
	slices.SortFunc(list, netip.Addr.Compare)
	return slices.Compact(list)
}

// Pair returns a key and certificate of the identity that the node has now; the
// error says that there is none yet.
func (j *Join) Pair(use joinpb.CertificateRequest_Use) (pki.KeyPair, error) {
	j.mu.Lock()
	current := j.current
	j.mu.Unlock()
	if current == nil {
		return pki.KeyPair{}, errNone
	}
	return current.Pair(use)
}

// Obtain returns the node's identity: the one on its disk, if it is still the
// node's, else a new one. It asks until a control-plane node lets it in, or ctx
// ends.
func (j *Join) Obtain(ctx context.Context) (*Identity, error) {
	identity, err := load(j.options.Dir, j.owner, j.by, time.Now())
	if err == nil {
		j.options.Log.Info("identity read", "until", identity.until, "addresses", identity.owner.addresses)
		j.set(identity)
		return identity, nil
	}
	j.options.Log.Info("joining the cluster", "why", err)
	for failures := 0; ; failures++ {
		identity, err := j.ask(ctx)
		if err == nil {
			j.options.Log.Info("joined the cluster", "until", identity.until)
			j.accept(identity)
			return identity, nil
		}
		if ctx.Err() != nil {
			return nil, fmt.Errorf("join the cluster: %w", ctx.Err())
		}
		j.report(err)
		if !pause(ctx, jitter(joinDelay(failures, lasting(err)))) {
			return nil, fmt.Errorf("join the cluster: %w", ctx.Err())
		}
	}
}

// Keep renews the identity in time, or at once if it is for former addresses,
// until ctx ends, and calls changed with each new one, from one goroutine. Obtain
// must have returned one before.
func (j *Join) Keep(ctx context.Context, changed func(*Identity)) {
	failures := 0
	for {
		identity := j.have()
		if now := time.Now(); now.Before(identity.renewAt()) && identity.isFor(j.owner.addresses) {
			j.retrySave(identity)
			if !pause(ctx, jitter(untilCheck(identity, now))) {
				return
			}
			continue
		}
		next, err := j.ask(ctx)
		if ctx.Err() != nil {
			return
		}
		delay := checkEvery // also when the new one is due at once, as the clock is wrong
		if err == nil {
			failures = 0
			j.options.Log.Info("identity renewed", "until", next.until)
			j.accept(next)
			changed(next)
		} else {
			delay = renewDelay(failures)
			failures++
			j.renewalFailed(identity, err)
		}
		if !pause(ctx, jitter(delay)) {
			return
		}
	}
}

// renewalFailed is a problem only when the identity begins to run out, or others
// cannot know the node by it.
func (j *Join) renewalFailed(identity *Identity, err error) {
	if !identity.isFor(j.owner.addresses) {
		j.report(fmt.Errorf("the node's certificates are for %v, its addresses are %v now, and they are not renewed: %w", identity.owner.addresses, j.owner.addresses, err))
		return
	}
	if time.Now().Before(identity.lateAt()) {
		j.options.Log.Warn("identity not renewed yet", "until", identity.until, "reason", err)
		return
	}
	j.report(fmt.Errorf("the node's certificates end at %s and are not renewed: %w", identity.until.UTC().Format(time.RFC3339), err))
}

// accept makes an identity the node's. One that cannot be kept on the disk is
// good until the next boot.
func (j *Join) accept(identity *Identity) {
	err := save(j.options.Dir, identity)
	j.mu.Lock()
	j.current, j.unsaved = identity, err != nil
	j.mu.Unlock()
	if now := time.Now(); err == nil && now.After(identity.until) {
		err = fmt.Errorf("what was signed for this node ends at %s, and its clock says %s: set the clock",
			identity.until.UTC().Format(time.RFC3339), now.UTC().Format(time.RFC3339))
	}
	j.report(err)
}

// retrySave tries again to keep on the disk what could not be kept before.
func (j *Join) retrySave(identity *Identity) {
	j.mu.Lock()
	unsaved := j.unsaved
	j.mu.Unlock()
	if unsaved {
		j.accept(identity)
	}
}

func (j *Join) have() *Identity {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.current
}

func (j *Join) set(identity *Identity) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.current = identity
}

// report tells what is wrong, if that is news.
func (j *Join) report(err error) {
	text := ""
	if err != nil {
		text = err.Error()
	}
	if text == j.reported {
		return
	}
	j.reported = text
	j.options.Report(err)
}

func lasting(err error) bool {
	failed, ok := errors.AsType[*roundError](err)
	return ok && failed.lasting()
}

// jitter spreads what many nodes do at one time, by up to a tenth.
func jitter(delay time.Duration) time.Duration {
	return delay + time.Duration(rand.Int64N(int64(delay)/10+1))
}

// pause waits for d and reports whether the context still runs.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
