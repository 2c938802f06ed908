package throttle

import (
	"net/netip"
	"testing"
	"time"
)

var now = time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)

func take(t *testing.T, r *Remotes, address string, at time.Duration, want bool) {
	t.Helper()
	remote := netip.Addr{}
	if address != "" {
		remote = netip.MustParseAddr(address)
	}
	if left := r.Left(remote, now.Add(at)); left != want {
		t.Errorf("%s at %s: left %v, want %v", address, at, left, want)
	}
	if took := r.Take(remote, now.Add(at)); took != want {
		t.Errorf("%s at %s: took %v, want %v", address, at, took, want)
	}
}

func TestEachAddressHasItsOwnAllowance(t *testing.T) {
	r := New(Limit{2, time.Second}, Limit{100, time.Second})
	take(t, r, "10.0.0.1", 0, true)
	take(t, r, "::ffff:10.0.0.1", 0, true) // the same host
	take(t, r, "10.0.0.1", 0, false)
	take(t, r, "10.0.0.2", 0, true)
	take(t, r, "10.0.0.1", time.Second, true)
	take(t, r, "10.0.0.1", time.Second, false)
	take(t, r, "", 0, true)
	// A host of IPv6 has as many addresses as it likes.
	take(t, r, "fd00::1", 0, true)
	take(t, r, "fd00::ffff:0:0:2%eth0", 0, true)
	take(t, r, "fd00::3", 0, false)
	take(t, r, "fd00:0:0:1::3", 0, true)
}

func TestAllShareOneAllowance(t *testing.T) {
	r := New(Limit{1, time.Minute}, Limit{2, time.Second})
	take(t, r, "10.0.0.1", 0, true)
	take(t, r, "10.0.0.1", 0, false) // takes nothing of the others'
	take(t, r, "10.0.0.2", 0, true)
	take(t, r, "10.0.0.3", 0, false)
	take(t, r, "10.0.0.3", time.Second, true) // refused before, it lost nothing
}

func TestPlacesAreBounded(t *testing.T) {
	r := New(Limit{1, time.Minute}, Limit{2 * maxRemotes, time.Nanosecond})
	address := netip.MustParseAddr("10.0.0.0")
	for range maxRemotes {
		if !r.Take(address, now) {
			t.Fatal("refused while there are places")
		}
		address = address.Next()
	}
	if r.Left(address, now) || r.Take(address, now) {
		t.Error("a place more than there are")
	}
	if !r.Take(address, now.Add(time.Minute)) || len(r.one) != 1 {
		t.Errorf("%d are remembered, want only the new one", len(r.one))
	}
}
