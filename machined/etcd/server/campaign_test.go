package main

import (
	"context"
	"errors"
	"net/url"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3client"
)

func TestSightOfASeat(t *testing.T) {
	start := time.Now()
	at := func(d time.Duration) time.Time { return start.Add(d) }
	taken, renewed := seat{revision: 7, value: "node-1 x"}, seat{revision: 9, value: "node-1 x"}
	for name, c := range map[string]struct {
		looks []seat // one a second
		at    time.Duration
		free  bool
	}{
		"nothing is known":  {nil, time.Hour, false},
		"nobody's":          {[]seat{{}}, 0, true},
		"seen once":         {[]seat{taken}, 0, false},
		"not for long":      {[]seat{taken, taken, taken}, takeAfter - 1, false},
		"for long":          {[]seat{taken, taken, taken}, takeAfter, true},
		"renewed":           {[]seat{taken, taken, renewed}, takeAfter + time.Second, false},
		"renewed, for long": {[]seat{taken, taken, renewed}, takeAfter + 2*time.Second, true},
		"given up":          {[]seat{taken, {}}, time.Second, true},
		"taken once more":   {[]seat{taken, {}, renewed}, 3 * time.Second, false},
	} {
		var s sight
		for i, look := range c.looks {
			s = s.see(look, at(time.Duration(i)*time.Second))
		}
		if got := s.free(at(c.at)); got != c.free {
			t.Errorf("%s: free %v", name, got)
		}
	}
	if got := taken.holder(); got != "node-1" {
		t.Errorf("holder %q", got)
	}
}

// newStore starts an etcd server in this process.
func newStore(t *testing.T) *clientv3.Client {
	t.Helper()
	config := embed.NewConfig()
	config.Dir = t.TempDir()
	config.LogLevel = "panic"
	any := url.URL{Scheme: "http", Host: "127.0.0.1:0"}
	config.ListenClientUrls, config.ListenPeerUrls = []url.URL{any}, []url.URL{any}
	server, err := embed.StartEtcd(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	select {
	case <-server.Server.ReadyNotify():
	case <-time.After(deadline):
		t.Fatal("etcd is not ready")
	}
	client := v3client.New(server.Server)
	t.Cleanup(func() { client.Close() })
	return client
}

// cable is a way to etcd that can be cut: what is sent is lost, or the answer is.
type cable struct {
	clientv3.KV
	mu               sync.Mutex
	cut, loseAnswers bool
	lostAnswers      int
}

func (c *cable) lost() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.lostAnswers
}

func (c *cable) set(cut, loseAnswers bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cut, c.loseAnswers = cut, loseAnswers
}

func (c *cable) Txn(ctx context.Context) clientv3.Txn {
	return &cutTxn{Txn: c.KV.Txn(ctx), ctx: ctx, cable: c}
}

type cutTxn struct {
	clientv3.Txn
	ctx   context.Context
	cable *cable
}

func (t *cutTxn) If(cs ...clientv3.Cmp) clientv3.Txn  { t.Txn = t.Txn.If(cs...); return t }
func (t *cutTxn) Then(os ...clientv3.Op) clientv3.Txn { t.Txn = t.Txn.Then(os...); return t }
func (t *cutTxn) Else(os ...clientv3.Op) clientv3.Txn { t.Txn = t.Txn.Else(os...); return t }

func (t *cutTxn) Commit() (*clientv3.TxnResponse, error) {
	t.cable.mu.Lock()
	cut, lose := t.cable.cut, t.cable.loseAnswers
	t.cable.mu.Unlock()
	if !cut {
		answer, err := t.Txn.Commit()
		if !lose {
			return answer, err
		}
		t.cable.mu.Lock()
		t.cable.lostAnswers++
		t.cable.mu.Unlock()
	}
	<-t.ctx.Done()
	return nil, t.ctx.Err()
}

// contender is one node's candidate and what it was told.
type contender struct {
	*cable
	name string
	stop func()

	until  time.Time // of its hold
	losses int       // holds that it was told the end of
}

func (n *contender) holds() bool { return n.until.After(time.Now()) }

// contest is an election among contenders that watches over who holds.
type contest struct {
	t   *testing.T
	kv  clientv3.KV
	mu  sync.Mutex
	all []*contender
}

func (c *contest) join(name string) *contender { return c.joinBy(&cable{KV: c.kv}, name) }

func (c *contest) joinBy(way *cable, name string) *contender {
	ctx, cancel := context.WithCancel(c.t.Context())
	n := &contender{cable: way, name: name}
	c.mu.Lock()
	c.all = append(c.all, n)
	c.mu.Unlock()
	candidate := newCandidate(n.cable, "test", name)
	var running sync.WaitGroup
	running.Go(func() {
		err := candidate.run(ctx, func(_ string, until time.Time) error { c.told(n, until); return nil })
		if !errors.Is(err, context.Canceled) {
			c.t.Errorf("%s ended with %v", name, err)
		}
	})
	n.stop = func() {
		c.told(n, time.Time{}) // as machined does: the address goes first
		cancel()
		running.Wait()
	}
	c.t.Cleanup(n.stop)
	return n
}

// told notes what a contender was told, and that no two hold at once.
func (c *contest) told(n *contender, until time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	if n.holds() && until.IsZero() {
		n.losses++
	}
	n.until = until
	for _, other := range c.all {
		if other != n && until.After(now) && other.until.After(now) {
			c.t.Errorf("%s holds and %s does for another %s", n.name, other.name, other.until.Sub(now))
		}
	}
}

// await waits until the contest is as wanted.
func (c *contest) await(what string, wanted func() bool) {
	c.t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	timeout := time.After(deadline)
	for {
		c.mu.Lock()
		reached := wanted()
		c.mu.Unlock()
		if reached {
			return
		}
		select {
		case <-tick.C:
		case <-timeout:
			c.t.Fatal("waited in vain for ", what)
		}
	}
}

func TestOneHoldsAtATime(t *testing.T) {
	t.Parallel()
	c := &contest{t: t, kv: newStore(t)}
	a, b := c.join("a"), c.join("b")
	c.await("a holder", func() bool { return a.holds() || b.holds() })
	first, second := a, b
	if b.holds() {
		first, second = b, a
	}

	// An answer that is lost is no reason to lose the seat.
	first.set(false, true)
	c.await("a write whose answer is lost", func() bool { return first.lost() > 0 })
	first.set(false, false)
	restored := time.Now()
	c.await("the next write", func() bool { return first.until.After(restored.Add(holdFor)) })
	if first.losses > 0 {
		t.Error("a lost answer cost the seat")
	}

	began := time.Now()
	first.stop()
	c.await("the other after a resignation", second.holds)
	if took := time.Since(began); took >= takeAfter {
		t.Errorf("handing over took %s", took)
	}

	third := c.join("c")
	second.set(true, false)
	c.await("the third after the second was cut off", third.holds)
	second.set(false, false)
	third.stop()
	c.await("the second after all", second.holds)
}

// While etcd elects a leader, nobody can say whether the seat was taken.
func TestAFirstWriteOfWhichNothingIsHeard(t *testing.T) {
	t.Parallel()
	c := &contest{t: t, kv: newStore(t)}
	way := &cable{KV: c.kv, loseAnswers: true}
	one := c.joinBy(way, "a")
	c.await("a write whose answer is lost", func() bool { return way.lost() > 1 })
	way.set(false, false)
	restored := time.Now()
	c.await("the holder", one.holds)
	if took := time.Since(restored); took >= takeAfter {
		t.Errorf("it took %s to take a seat that was nobody's", took)
	}
}
