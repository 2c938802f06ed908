package main

import (
	"context"
	"errors"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/keelson-os/keelson/machined/etcd"
)

// campaign stands for election on the node, as machined does, and tells the
// contest what it hears.
func (c *contest) campaign(n *node) *contender {
	c.t.Helper()
	ctx, cancel := context.WithCancel(c.t.Context())
	var holds <-chan time.Time
	n.eventually("a campaign", func() (err error) {
		holds, err = etcd.Campaign(ctx, n.options.AdminSocket, "virtual-ip")
		return err
	})
	one := &contender{name: n.options.Hostname}
	c.mu.Lock()
	c.all = append(c.all, one)
	c.mu.Unlock()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for until := range holds {
			c.told(one, until)
		}
		c.told(one, time.Time{})
	}()
	one.stop = func() {
		c.told(one, time.Time{})
		cancel()
		<-ended
	}
	c.t.Cleanup(one.stop)
	return one
}

// A process that is gone, or hangs, must not keep the seat, nor believe to.
func TestTheHolderDies(t *testing.T) {
	t.Parallel()
	nodes := form(t, 3).nodes
	c := &contest{t: t}
	var all []*contender
	for _, n := range nodes {
		all = append(all, c.campaign(n))
	}
	holder := func() (*node, *contender) {
		for i, each := range all {
			if each.holds() {
				return nodes[i], each
			}
		}
		return nil, nil
	}
	c.await("a holder", func() bool { _, one := holder(); return one != nil })

	c.mu.Lock()
	hung, first := holder()
	c.mu.Unlock()
	hung.freeze()
	began := time.Now()
	c.await("another holder", func() bool { _, one := holder(); return one != nil && one != first })
	t.Log("after the holder hung, another one held after", time.Since(began))
	if err := hung.process.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	hung.healthy()

	c.mu.Lock()
	killed, second := holder()
	c.mu.Unlock()
	if second == nil || second == first {
		t.Fatal("the one that hung took the seat back from one that works")
	}
	killed.kill()
	began = time.Now()
	c.await("a third holder", func() bool { _, one := holder(); return one != nil && one != second })
	t.Log("after the holder's process died, another one held after", time.Since(began))
}

func TestCampaignsThatCannotBe(t *testing.T) {
	waiting := newCluster(t)
	waiting.node("node-1")
	n := waiting.node("node-2")
	n.start() // and waits for the other, which never comes
	n.eventually("a campaign without a member is refused", func() error {
		_, err := etcd.Campaign(t.Context(), n.options.AdminSocket, "virtual-ip")
		if err == nil || strings.Contains(err.Error(), "connect:") {
			return errors.New("it was not answered")
		}
		return nil
	})
	c := form(t, 1)
	if _, err := etcd.Campaign(t.Context(), c.nodes[0].options.AdminSocket, "../registry"); err == nil || !strings.Contains(err.Error(), "DNS label") {
		t.Errorf("a name that leads elsewhere: %v", err)
	}
}
