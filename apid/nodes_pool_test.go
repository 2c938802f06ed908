package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/status"

	clusterpb "github.com/keelson-os/keelson/pkg/api/cluster"
)

func TestRenewedForwardersAreUsedWithoutARestart(t *testing.T) {
	c := startCluster(t, nil)
	conn := c.cp1.admin(t)
	c.worker.machined.events = sayOnce(make(chan error, 1))
	events := c.follow(t, "worker")
	was := c.cp1.server.others.pool.nodes["worker"]
	o := c.cp1.options
	writeForwarder(t, c.cp1.ca, "cp-1 renewed", &o)
	if _, err := ask(t, conn, "worker"); err != nil {
		t.Fatal(err)
	}
	if is := c.cp1.server.others.pool.nodes["worker"]; is == was {
		t.Error("the connection of the former certificate is still used")
	}
	if was.GetState() == connectivity.Shutdown {
		t.Error("a stream of the former connection was cut")
	}
	_ = events.CloseSend()
	c.worker.server.grpc.Stop() // ends the stream
	await(t, "end of the former connection", func() bool { return was.GetState() == connectivity.Shutdown })
}

func newTestPool(t *testing.T) *pool {
	t.Helper()
	n := startNode(t, nil)
	o := n.options
	o.forwardCert, o.forwardKey = o.cert+".forward", o.key+".forward"
	writeForwarder(t, n.ca, "cp-1", &o)
	certs, err := loadForwarder(o, nil)
	if err != nil {
		t.Fatal(err)
	}
	p := newPool(certs, "50000")
	t.Cleanup(p.close)
	return p
}

func node(i int) *clusterpb.Node {
	return &clusterpb.Node{Name: fmt.Sprintf("node-%d", i), Addresses: []string{fmt.Sprintf("127.1.0.%d", i)}}
}

func TestThePoolIsBounded(t *testing.T) {
	p := newTestPool(t)
	for i := range maxOthers {
		if _, err := p.get(node(i)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := p.get(node(maxOthers)); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("one more node, while all are in use: %v", err)
	}
	oldest, next := p.nodes["node-7"], p.nodes["node-3"]
	oldest.release()
	next.release()
	if _, err := p.get(node(maxOthers)); err != nil {
		t.Errorf("after two were released: %v", err)
	}
	if len(p.nodes) != maxOthers || next.GetState() != connectivity.Shutdown || oldest.GetState() == connectivity.Shutdown {
		t.Errorf("%d connections; the one unused the longest is %s, the other %s", len(p.nodes), next.GetState(), oldest.GetState())
	}
	one := p.nodes["node-5"]
	for range maxStreams - 1 {
		if _, err := p.get(node(5)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := p.get(node(5)); status.Code(err) != codes.ResourceExhausted || one.calls != maxStreams {
		t.Errorf("one call more than a connection takes: %v", err)
	}
}

func TestAMovedNodeIsDialledAnew(t *testing.T) {
	p := newTestPool(t)
	was, err := p.get(node(1))
	if err != nil {
		t.Fatal(err)
	}
	moved := node(1)
	moved.Addresses = []string{"127.1.0.99", "a", "b", "c", "d", "e"}
	is, err := p.get(moved)
	if err != nil || is == was || is.addresses[0] != "127.1.0.99:50000" || len(is.addresses) != maxNodeAddresses {
		t.Errorf("dialled at %v, %v", is.addresses, err)
	}
	if was.GetState() == connectivity.Shutdown {
		t.Error("a call under way was cut")
	}
	was.release()
	if was.GetState() != connectivity.Shutdown {
		t.Error("the former connection stays")
	}
}

// countingNodes answers when it is let.
type countingNodes struct {
	clusterpb.ClusterServiceClient
	calls  atomic.Int64
	answer chan error
}

func (c *countingNodes) Nodes(context.Context, *clusterpb.NodesRequest, ...grpc.CallOption) (*clusterpb.NodesResponse, error) {
	c.calls.Add(1)
	return &clusterpb.NodesResponse{Nodes: []*clusterpb.Node{node(1)}}, <-c.answer
}

func TestTheDirectoryAsksOnceForAll(t *testing.T) {
	machined := &countingNodes{answer: make(chan error)}
	d := newDirectory(machined, nil)
	gone, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	for i := range 20 {
		all.Go(func() {
			ctx := t.Context()
			if i == 0 {
				ctx = gone
			}
			if _, err := d.find(ctx, "node-1"); err != nil && (i > 0 || status.Code(err) != codes.Canceled) {
				t.Errorf("caller %d: %v", i, err)
			}
		})
	}
	await(t, "question", func() bool { return machined.calls.Load() > 0 })
	cancel()
	close(machined.answer)
	all.Wait()
	if calls := machined.calls.Load(); calls > 2 { // one may come when the first answer is being kept
		t.Errorf("asked %d times", calls)
	}
	was := machined.calls.Load()
	if _, err := d.find(t.Context(), "node-1"); err != nil || machined.calls.Load() != was {
		t.Errorf("a young list is not used: %v", err)
	}
	d.asked = time.Now().Add(-directoryAge)
	machined.answer = make(chan error, 1)
	machined.answer <- errors.New("no disk")
	if _, err := d.find(t.Context(), "node-1"); status.Code(err) != codes.Unavailable {
		t.Errorf("an old list is used: %v", err)
	}
}
