package network

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// keeper is a running KeepVirtualIP, in a bubble with a time of its own, and all
// that it asks.
type keeper struct {
	fail map[string]error // calls that fail
	stop func() error

	mu        sync.Mutex
	calls     []string
	campaigns int
	holds     chan time.Time // of the campaign under way
	refuse    error          // of the next campaigns
	health    error
	problems  []string
}

func (k *keeper) call(verb string, address netip.Addr) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	call := verb + " " + address.String()
	k.calls = append(k.calls, call)
	return k.fail[call]
}

func (k *keeper) place(address netip.Addr) (placement, error) {
	return placement{"eth0", address}, k.fail["place "+address.String()]
}
func (k *keeper) add(p placement) error           { return k.call("add", p.address) }
func (k *keeper) remove(address netip.Addr) error { return k.call("remove", address) }
func (k *keeper) announce(p placement) error      { return k.call("announce", p.address) }

// campaign is an election that says what comes by the channel holds.
func (k *keeper) campaign(ctx context.Context) (<-chan time.Time, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.campaigns++
	if k.refuse != nil {
		return nil, k.refuse
	}
	in, out := make(chan time.Time), make(chan time.Time)
	k.holds = in
	go func() {
		defer close(out)
		for {
			select {
			case until, ok := <-in:
				if !ok {
					return
				}
				out <- until
			case <-ctx.Done():
				k.mu.Lock()
				k.calls = append(k.calls, "resign")
				k.mu.Unlock()
				return
			}
		}
	}()
	return out, nil
}

func keep(t *testing.T, fail map[string]error, addresses ...string) *keeper {
	k := &keeper{fail: fail}
	options := VirtualIPOptions{
		Campaign: k.campaign,
		Healthy: func(context.Context) error {
			k.mu.Lock()
			defer k.mu.Unlock()
			return k.health
		},
		Log: slog.New(slog.NewTextHandler(t.Output(), nil)),
		Problem: func(err error) {
			k.mu.Lock()
			defer k.mu.Unlock()
			k.problems = append(k.problems, fmt.Sprint(err))
		},
	}
	for _, each := range addresses {
		options.Addresses = append(options.Addresses, addr(each))
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- keepVirtualIP(ctx, options, k) }()
	k.stop = func() error { cancel(); return <-done }
	synctest.Wait()
	return k
}

// hold says for how long the node holds from now on.
func (k *keeper) hold(d time.Duration) {
	until := time.Time{}
	if d > 0 {
		until = time.Now().Add(d)
	}
	k.mu.Lock()
	holds := k.holds
	k.mu.Unlock()
	holds <- until
}

func (k *keeper) set(refuse, health error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.refuse, k.health = refuse, health
}

// expect compares the calls since the last time.
func (k *keeper) expect(t *testing.T, when string, want ...string) {
	t.Helper()
	synctest.Wait()
	k.mu.Lock()
	defer k.mu.Unlock()
	if !slices.Equal(k.calls, want) {
		t.Errorf("%s: %q, want %q", when, k.calls, want)
	}
	k.calls = nil
}

// told compares all problems told, and how many campaigns there were.
func (k *keeper) told(t *testing.T, campaigns int, problems ...string) {
	t.Helper()
	synctest.Wait()
	k.mu.Lock()
	defer k.mu.Unlock()
	if !slices.Equal(k.problems, problems) || k.campaigns != campaigns {
		t.Errorf("%d campaigns, problems %q; want %d, %q", k.campaigns, k.problems, campaigns, problems)
	}
}

func (k *keeper) ends(t *testing.T) {
	t.Helper()
	if err := k.stop(); err != nil {
		t.Error(err)
	}
}

func TestAddressesFollowTheElection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := keep(t, nil, "10.0.0.50", "fd00::50")
		k.expect(t, "at the start", "remove 10.0.0.50", "remove fd00::50")
		k.hold(0)
		k.expect(t, "another node holds")
		k.hold(6 * time.Second)
		k.expect(t, "elected", "add 10.0.0.50", "add fd00::50", "announce 10.0.0.50", "announce fd00::50")
		time.Sleep(5 * time.Second)
		k.hold(6 * time.Second)
		k.expect(t, "prolonged", "announce 10.0.0.50", "announce fd00::50", "announce 10.0.0.50", "announce fd00::50")
		time.Sleep(5 * time.Second)
		k.hold(0)
		k.expect(t, "lost", "remove 10.0.0.50", "remove fd00::50")
		k.hold(6 * time.Second)
		k.expect(t, "elected once more", "add 10.0.0.50", "add fd00::50", "announce 10.0.0.50", "announce fd00::50")
		k.ends(t)
		k.expect(t, "at the end", "remove 10.0.0.50", "remove fd00::50", "resign")
		k.told(t, 1)
	})
}

// The process that holds the election may hang, or be gone.
func TestAddressesGoWhenNothingIsHeard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := keep(t, nil, "10.0.0.50")
		k.hold(6 * time.Second)
		k.expect(t, "elected", "remove 10.0.0.50", "add 10.0.0.50", "announce 10.0.0.50")
		time.Sleep(6*time.Second - time.Nanosecond)
		k.expect(t, "within the time", "announce 10.0.0.50", "announce 10.0.0.50")
		time.Sleep(time.Nanosecond)
		k.expect(t, "after it", "remove 10.0.0.50", "resign")
		time.Sleep(campaignPause)
		synctest.Wait()
		k.hold(6 * time.Second)
		k.expect(t, "elected", "add 10.0.0.50", "announce 10.0.0.50")
		k.set(errors.New("etcd is starting"), nil)
		close(k.holds)
		k.expect(t, "the campaign ended by itself", "remove 10.0.0.50")
		time.Sleep(10 * campaignPause)
		k.told(t, 12, "etcd is starting")
		k.set(nil, nil)
		time.Sleep(campaignPause)
		k.told(t, 13, "etcd is starting", "<nil>")
		k.ends(t)
	})
}

func TestASickNodeLeavesTheAddressesToOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := keep(t, nil, "10.0.0.50")
		k.hold(time.Hour)
		k.expect(t, "elected", "remove 10.0.0.50", "add 10.0.0.50", "announce 10.0.0.50")
		sick := errors.New("etcd: no leader")
		k.set(nil, sick)
		time.Sleep(healthInterval + healthRetry)
		k.set(nil, nil)
		time.Sleep(10 * time.Second)
		k.expect(t, "a blip", "announce 10.0.0.50", "announce 10.0.0.50")
		k.set(nil, sick)
		time.Sleep(healthInterval + (healthFailures-1)*healthRetry)
		k.expect(t, "sick", "remove 10.0.0.50", "resign")
		time.Sleep(time.Minute)
		k.told(t, 1)
		k.set(nil, nil)
		time.Sleep(healthInterval)
		k.told(t, 2)
		k.ends(t)
	})
}

func TestWhatCannotBeDoneIsTold(t *testing.T) {
	noPlace := map[string]error{"place fd00::50": errors.New("no subnet")}
	synctest.Test(t, func(t *testing.T) {
		// One address that has no place here does not keep the other away.
		k := keep(t, noPlace, "10.0.0.50", "fd00::50")
		k.hold(time.Hour)
		k.expect(t, "elected", "remove 10.0.0.50", "remove fd00::50", "add 10.0.0.50", "announce 10.0.0.50")
		k.told(t, 1, "no subnet")
		k.ends(t)
	})
	synctest.Test(t, func(t *testing.T) {
		k := keep(t, noPlace, "fd00::50")
		time.Sleep(time.Minute)
		k.told(t, 0, "no subnet")
		k.ends(t)
	})
	synctest.Test(t, func(t *testing.T) {
		// Who cannot give an address up must not stand for it.
		k := keep(t, map[string]error{"remove 10.0.0.50": errors.New("busy")}, "10.0.0.50")
		time.Sleep(time.Minute)
		k.told(t, 0, "busy")
		if err := k.stop(); err == nil {
			t.Error("it ended as if the address were gone")
		}
	})
	synctest.Test(t, func(t *testing.T) {
		k := keep(t, map[string]error{"add 10.0.0.50": errors.New("no memory")}, "10.0.0.50")
		k.hold(time.Hour)
		k.expect(t, "cannot take", "remove 10.0.0.50", "add 10.0.0.50", "remove 10.0.0.50", "resign")
		k.told(t, 1, "no memory")
		k.ends(t)
	})
}

// counted is a context that counts what waits for its end.
type counted struct {
	context.Context
	waiting int
}

func (c *counted) Value(any) any { return nil }

func (c *counted) AfterFunc(func()) func() bool {
	c.waiting++
	stopped := false
	return func() bool {
		if stopped {
			return false
		}
		stopped = true
		c.waiting--
		return true
	}
}

func TestCampaignsThatCannotBeginLeaveNothingBehind(t *testing.T) {
	ctx := &counted{Context: t.Context()}
	k := &keeper{refuse: errors.New("etcd is starting")}
	v := &virtualIP{VirtualIPOptions: VirtualIPOptions{Addresses: []netip.Addr{addr("10.0.0.50")}, Campaign: k.campaign}, links: k}
	for range 3 {
		if err := v.campaign(ctx); !errors.Is(err, k.refuse) {
			t.Fatal(err)
		}
	}
	if ctx.waiting != 0 {
		t.Errorf("%d of 3 campaigns wait for the node's end", ctx.waiting)
	}
}

func TestChooseLink(t *testing.T) {
	have := []linkAddress{
		{"lo", prefix("127.0.0.1/8"), true},
		{DNSLink, prefix("169.254.20.10/32"), true},
		{"eth0", prefix("10.0.0.5/16"), true},
		{"eth0", prefix("10.0.0.50/32"), false},
		{"eth1", prefix("10.0.3.5/24"), true},
		{"eth0", prefix("fe80::5/64"), true},
		{"eth0", prefix("fd00::5/64"), true},
	}
	for address, want := range map[string]string{
		"10.0.0.50":   "eth0",
		"10.0.3.50":   "eth1",
		"fd00::50":    "eth0",
		"10.0.3.5":    "is the address of eth1 itself",
		"192.168.0.1": "its subnets: 10.0.0.0/16 on eth0, 10.0.3.0/24 on eth1, fd00::/64 on eth0",
		"fe80::50":    "is in no subnet",
	} {
		got, err := chooseLink(have, addr(address))
		if got.link != want && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v, %v, want %s", address, got, err, want)
		}
	}
	if _, err := chooseLink(nil, addr("10.0.0.50")); err == nil || !strings.Contains(err.Error(), "its subnets: none") {
		t.Errorf("no links: %v", err)
	}
}

func TestAnnouncements(t *testing.T) {
	card := net.HardwareAddr{0x52, 0x54, 0, 0, 0, 1}
	for address, want := range map[string]string{
		"10.0.0.50": "ffffffffffff525400000001" + "0806" + "0001" + "0800" + "06" + "04" + "0001" +
			"525400000001" + "0a000032" + "000000000000" + "0a000032",
		"fd00::50": "333300000001525400000001" + "86dd" + "60000000" + "0020" + "3a" + "ff" +
			"fd000000000000000000000000000050" + "ff020000000000000000000000000001" +
			"8800" + "09a9" + "20000000" + "fd000000000000000000000000000050" + "0201525400000001",
	} {
		frame, to := announcement(card, addr(address))
		if got := hex.EncodeToString(frame); got != want || !strings.HasPrefix(got, hex.EncodeToString(to)) {
			t.Errorf("%s:\n%s, want\n%s", address, got, want)
		}
	}
}
