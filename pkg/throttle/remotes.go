package throttle

import (
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// maxRemotes bounds how many addresses are remembered. Those whose allowance is
// whole again are forgotten first; when all places are taken by others, a new
// one is refused.
const maxRemotes = 1024

// hostBits is how much of an IPv6 address tells hosts apart here: the rest of
// it any host chooses as it likes, and often anew.
const hostBits = 64

// Limit is an allowance: so many at once, and one more after every interval.
type Limit struct {
	Burst int
	Every time.Duration
}

func (l Limit) limiter() *rate.Limiter { return rate.NewLimiter(rate.Every(l.Every), l.Burst) }

// Remotes counts what remote addresses did. Its methods may be called from any
// goroutine.
type Remotes struct {
	each Limit

	mu  sync.Mutex
	all *rate.Limiter
	one map[netip.Addr]*rate.Limiter
}

// New makes a count that allows each address, and all together, so much.
func New(each, all Limit) *Remotes {
	return &Remotes{each: each, all: all.limiter(), one: map[netip.Addr]*rate.Limiter{}}
}

// Left tells whether the address has some of its allowance left, and takes
// nothing of it. The zero Addr stands for all whose address is not known.
func (r *Remotes) Left(remote netip.Addr, now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	one, known := r.one[Host(remote)]
	if r.all.TokensAt(now) < 1 {
		return false
	}
	if !known { // Take needs a place
		return r.room(now)
	}
	return one.TokensAt(now) >= 1
}

// Take takes one of the address' allowance and tells whether there was one.
// Who is refused takes nothing of the others'.
func (r *Remotes) Take(remote netip.Addr, now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	key := Host(remote)
	one, known := r.one[key]
	if !known {
		if !r.room(now) {
			return false
		}
		one = r.each.limiter()
	}
	if one.TokensAt(now) < 1 || r.all.TokensAt(now) < 1 {
		return false
	}
	r.one[key] = one
	return one.AllowN(now, 1) && r.all.AllowN(now, 1)
}

// room tells whether there is a place for one more address, and makes some free
// if need be. The lock is held.
func (r *Remotes) room(now time.Time) bool {
	if len(r.one) < maxRemotes {
		return true
	}
	for key, one := range r.one {
		if one.TokensAt(now) >= float64(r.each.Burst) {
			delete(r.one, key)
		}
	}
	return len(r.one) < maxRemotes
}

// Host is what of an address counts: all of an IPv4 address, the network of an
// IPv6 one.
func Host(remote netip.Addr) netip.Addr {
	remote = remote.Unmap().WithZone("")
	if !remote.Is6() {
		return remote
	}
	network, _ := remote.Prefix(hostBits) // fails only for too many bits
	return network.Addr()
}
