package network

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"time"
)

// Times of KeepVirtualIP.
const (
	// healthInterval is between two checks of what the addresses lead to, and
	// healthRetry after a check that failed; healthFailures of them in a row give
	// the addresses to another node. healthTimeout bounds one.
	healthInterval = 3 * time.Second
	healthRetry    = time.Second
	healthFailures = 3
	healthTimeout  = 3 * time.Second
	// campaignPause is between two campaigns.
	campaignPause = time.Second
	// An address that was taken is announced this often at once, a second apart:
	// frames get lost. Later ones are for neighbours who heard none of those, or
	// last from a holder that had not noticed yet that it was none any more.
	announcements = 3
	announceNext  = time.Second
	announceLater = time.Minute
)

// VirtualIPOptions of KeepVirtualIP.
type VirtualIPOptions struct {
	// Addresses that this node holds, or another one does.
	Addresses []netip.Addr
	// Campaign takes part in the election of the holder until ctx ends. The
	// channel tells until when this node is the holder, zero that it is not; it
	// is closed when the campaign has ended.
	Campaign func(ctx context.Context) (<-chan time.Time, error)
	// Healthy tells whether what the addresses lead to works on this node.
	Healthy func(ctx context.Context) error
	Log     *slog.Logger
	// Problem is told what keeps the node from holding the addresses, and nil
	// when nothing does any more. That it is not the holder is no problem.
	Problem func(error)
}

// placement is where an address goes on this node.
type placement struct {
	link    string
	address netip.Addr
}

// links is what KeepVirtualIP does to the node's links.
type links interface {
	// place finds the link that an address belongs to.
	place(address netip.Addr) (placement, error)
	add(placement) error
	// remove takes the address from every link. That none has it is no error.
	remove(address netip.Addr) error
	// announce tells the neighbours that the address is here.
	announce(placement) error
}

// KeepVirtualIP lets the node hold the addresses whenever it is the elected
// holder and healthy, until ctx ends. When it returns, the node does not hold
// them.
func KeepVirtualIP(ctx context.Context, options VirtualIPOptions) error {
	return keepVirtualIP(ctx, options, kernelLinks{})
}

func keepVirtualIP(ctx context.Context, options VirtualIPOptions, links links) error {
	// What an earlier run left here may be another node's now.
	v := &virtualIP{VirtualIPOptions: options, links: links, added: options.Addresses}
	v.tell(v.release())
	for v.healthy(ctx) {
		v.tell(v.campaign(ctx))
		if pauseFor(ctx, campaignPause) != nil {
			break
		}
	}
	return v.release()
}

// virtualIP is the state of KeepVirtualIP.
type virtualIP struct {
	VirtualIPOptions
	links links

	placed  []placement // of the campaign under way
	holding bool
	added   []netip.Addr // to links that may have them still
	problem string       // told last
}

// campaign runs one campaign to its end. The error is what keeps the node from
// holding all the addresses.
func (v *virtualIP) campaign(ctx context.Context) error {
	if err := v.release(); err != nil {
		return err // it was told before to give them up
	}
	unplaced := v.place()
	if len(v.placed) == 0 {
		return unplaced
	}
	// The campaign outlasts ctx by a moment: when another node hears that it is
	// the holder, this one has the addresses no more.
	campaign, resign := context.WithCancel(context.WithoutCancel(ctx))
	defer resign()
	begun := context.AfterFunc(ctx, resign)
	defer begun() // else ctx would hold every campaign that could not be begun
	holds, err := v.Campaign(campaign)
	if err != nil {
		return errors.Join(unplaced, err)
	}
	if begun() {
		v.tell(unplaced)
		err = v.follow(ctx, holds)
	}
	err = errors.Join(unplaced, err, v.release())
	resign()
	for range holds { // until its goroutine has ended
	}
	return err
}

// follow holds the addresses when holds says so.
func (v *virtualIP) follow(ctx context.Context, holds <-chan time.Time) error {
	watching, cancel := context.WithCancel(ctx)
	defer cancel()
	sick := v.watchHealth(watching)
	lost, announce := newAlarm(), newAlarm()
	defer lost.Stop()
	defer announce.Stop()
	announced := 0
	for {
		select {
		case <-ctx.Done():
			return nil
		case until, ok := <-holds:
			left := time.Until(until)
			switch {
			case !ok:
				return nil
			case left > 0:
				lost.Reset(left)
				if v.holding {
					continue
				}
				if err := v.take(); err != nil {
					return err
				}
				announced = 0
				announce.Reset(0)
			default:
				lost.Stop()
				announce.Stop()
				if err := v.release(); err != nil {
					return err
				}
			}
		case <-lost.C:
			v.Log.Warn("nothing more is heard of the election: the virtual IP is given up")
			return nil
		case <-announce.C:
			v.announce()
			announced++
			announce.Reset(nextAnnouncement(announced))
		case err := <-sick:
			v.Log.Warn("what the virtual IP leads to does not work here: it is left to other nodes", "error", err)
			return nil
		}
	}
}

// nextAnnouncement is the pause after so many of them.
func nextAnnouncement(done int) time.Duration {
	if done < announcements {
		return announceNext
	}
	return announceLater
}

// place finds a link for each address. The error tells of those without.
func (v *virtualIP) place() error {
	var failed []error
	v.placed = nil
	for _, address := range v.Addresses {
		placed, err := v.links.place(address)
		if err != nil {
			failed = append(failed, err)
			continue
		}
		v.placed = append(v.placed, placed)
	}
	return errors.Join(failed...)
}

// take adds the addresses to their links.
func (v *virtualIP) take() error {
	v.holding = true
	for _, placed := range v.placed {
		v.added = append(v.added, placed.address)
		if err := v.links.add(placed); err != nil {
			return err
		}
		v.Log.Info("virtual IP taken", "address", placed.address, "link", placed.link)
	}
	return nil
}

// release removes the addresses. Those that it could not are tried again with
// the next call.
func (v *virtualIP) release() error {
	var failed []error
	var left []netip.Addr
	for _, address := range v.added {
		if err := v.links.remove(address); err != nil {
			failed = append(failed, err)
			left = append(left, address)
		} else if v.holding {
			v.Log.Info("virtual IP given up", "address", address)
		}
	}
	v.holding, v.added = false, left
	return errors.Join(failed...)
}

func (v *virtualIP) announce() {
	for _, placed := range v.placed {
		if err := v.links.announce(placed); err != nil {
			v.Log.Warn("the neighbours may not know that the virtual IP is here", "address", placed.address, "error", err)
		}
	}
}

// tell reports what is wrong, once.
func (v *virtualIP) tell(err error) {
	now := ""
	if err != nil {
		now = err.Error()
	}
	if now != v.problem {
		v.problem = now
		v.Problem(err)
	}
}

// healthy waits until a check succeeds, and tells whether one did before ctx
// ended.
func (v *virtualIP) healthy(ctx context.Context) bool {
	for v.check(ctx) != nil {
		if pauseFor(ctx, healthInterval) != nil {
			return false
		}
	}
	return ctx.Err() == nil
}

// watchHealth sends the error of the last check when several in a row have
// failed, and ends; it ends with ctx too.
func (v *virtualIP) watchHealth(ctx context.Context) <-chan error {
	sick := make(chan error, 1)
	go func() {
		for failures := 0; ; {
			pause := healthInterval
			if err := v.check(ctx); err == nil {
				failures = 0
			} else if failures++; failures == healthFailures {
				sick <- err
				return
			} else {
				pause = healthRetry
			}
			if pauseFor(ctx, pause) != nil {
				return
			}
		}
	}()
	return sick
}

func (v *virtualIP) check(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, healthTimeout)
	defer cancel()
	return v.Healthy(ctx)
}

// newAlarm is a timer that is not set.
func newAlarm() *time.Timer {
	alarm := time.NewTimer(0)
	alarm.Stop()
	return alarm
}

// pauseFor returns after a while, or with ctx's error.
func pauseFor(ctx context.Context, pause time.Duration) error {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
