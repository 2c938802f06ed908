package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	clusterpb "github.com/keelson-os/keelson/pkg/api/cluster"
	imagepb "github.com/keelson-os/keelson/pkg/api/image"
	"github.com/keelson-os/keelson/pkg/identity"
)

type importStream = grpc.ClientStreamingServer[imagepb.ImportRequest, imagepb.ImportResponse]

// store is a machined that keeps what it imports.
type store struct {
	mu     sync.Mutex
	got    bytes.Buffer
	pin    bool
	caller string
}

func (s *store) importAll(stream importStream) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.got.Reset()
	s.caller = incoming(stream.Context(), identity.MetadataUser)
	for first := true; ; first = false {
		request, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return stream.SendAndClose(&imagepb.ImportResponse{Images: []*imagepb.Image{{Name: "web:1", Size: int64(s.got.Len())}}})
		}
		if err != nil {
			return err
		}
		if first {
			s.pin = request.GetPin()
		}
		s.got.Write(request.GetChunk())
	}
}

// keep gives every node of the cluster a store.
func (c *testCluster) keep() map[string]*store {
	stores := map[string]*store{}
	for name, node := range map[string]*testNode{"cp-1": c.cp1, "cp-2": c.cp2, "worker": c.worker} {
		stores[name] = &store{}
		node.machined.imports = stores[name].importAll
	}
	return stores
}

// chunk is the n-th of an archive, unlike any other.
func chunk(n int) []byte { return bytes.Repeat([]byte{byte(n), byte(n >> 8), 3, 4}, 128<<10) }

// spreadTo sends an archive of count chunks and returns what each node answered.
func spreadTo(t *testing.T, conn *grpc.ClientConn, count int, nodes ...string) (map[string]*imagepb.SpreadResponse, error) {
	t.Helper()
	stream, err := imagepb.NewImageServiceClient(conn).Spread(testContext(t))
	if err != nil {
		t.Fatal(err)
	}
	for i := range count {
		request := &imagepb.SpreadRequest{Chunk: chunk(i)}
		if i == 0 {
			request.Nodes, request.Pin = nodes, true
		}
		if err := stream.Send(request); err != nil {
			break
		}
	}
	_ = stream.CloseSend()
	return answersOf(stream)
}

func answersOf(stream grpc.BidiStreamingClient[imagepb.SpreadRequest, imagepb.SpreadResponse]) (map[string]*imagepb.SpreadResponse, error) {
	answers := map[string]*imagepb.SpreadResponse{}
	for {
		answer, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return answers, nil
		}
		if err != nil {
			return answers, err
		}
		if answers[answer.GetNode()] != nil {
			return answers, fmt.Errorf("%s answered twice", answer.GetNode())
		}
		answers[answer.GetNode()] = answer
	}
}

func failure(answer *imagepb.SpreadResponse) string {
	return fmt.Sprint(codes.Code(answer.GetFailure().GetCode()), ": ", answer.GetFailure().GetMessage())
}

func TestOneArchiveReachesEveryNode(t *testing.T) {
	c := startCluster(t, nil)
	stores := c.keep()
	const count = 40
	answers, err := spreadTo(t, c.cp1.admin(t), count, "cp-1", "127.0.0.3", "worker")
	if err != nil || len(answers) != 3 {
		t.Fatalf("%d answers, %v", len(answers), err)
	}
	var want bytes.Buffer
	for i := range count {
		want.Write(chunk(i))
	}
	for name, answer := range answers {
		if answer.GetFailure() != nil || answer.GetImages()[0].GetSize() != int64(want.Len()) {
			t.Errorf("%s: %v", name, answer)
		}
	}
	for name, store := range stores {
		if !bytes.Equal(store.got.Bytes(), want.Bytes()) || !store.pin || store.caller != "ada" {
			t.Errorf("%s got %d bytes for %q, pin %t", name, store.got.Len(), store.caller, store.pin)
		}
	}
	c.worker.log.await(t, "call admitted", "client.name=ada", "client.via=cp-1", "method="+imagepb.ImageService_Import_FullMethodName)
	// The service's other methods still go to machined.
	if _, err := imagepb.NewImageServiceClient(c.cp1.admin(t)).List(testContext(t), &imagepb.ListRequest{}); status.Code(err) != codes.Unimplemented || !strings.Contains(err.Error(), "List") {
		t.Errorf("list: %v", err)
	}
}

// Whatever is wrong with one node, the others get the archive.
func TestABadNodeDoesNotSpoilTheOthers(t *testing.T) {
	c := startCluster(t, func(name string, o *options) {
		if name == "cp-2" {
			o.methods = maps.Clone(methods)
			o.methods[imagepb.ImageService_Import_FullMethodName] = nil
		}
	})
	stores := c.keep()
	c.worker.machined.imports = func(stream importStream) error {
		for range 5 {
			if _, err := stream.Recv(); err != nil {
				return err
			}
		}
		return status.Error(codes.ResourceExhausted, "no space left for the image")
	}
	silent := listenAt(t, net.JoinHostPort("127.0.0.5", c.port)) // takes connections and says nothing
	defer silent.Close()
	c.nodes = append(c.nodes, &clusterpb.Node{Name: "silent", Addresses: []string{"127.0.0.5"}},
		&clusterpb.Node{Name: "off", Addresses: []string{"127.0.0.6"}})
	const count = 30
	answers, err := spreadTo(t, c.cp1.admin(t), count, "silent", "cp-2", "off", "worker", "wroker", "cp-1")
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"cp-2":   "PermissionDenied: ",
		"worker": "ResourceExhausted: no space left for the image",
		"silent": "Unavailable: node silent does not answer at 127.0.0.5:",
		"off":    "Unavailable: node off does not answer at 127.0.0.6:",
		"wroker": `NotFound: the cluster has no node "wroker"; its nodes are: `,
	} {
		if got := failure(answers[name]); !strings.HasPrefix(got, want) {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
	if answer := answers["cp-1"]; answer.GetFailure() != nil || stores["cp-1"].got.Len() != count*len(chunk(0)) {
		t.Errorf("cp-1: %v after %d bytes", answer, stores["cp-1"].got.Len())
	}
}

func TestASlowNodeIsLeftOut(t *testing.T) {
	c := startCluster(t, nil)
	stores := c.keep()
	limits := &c.cp1.server.spreader.limits
	limits.patience, limits.pace, limits.look = 300*time.Millisecond, 1<<40, 10*time.Millisecond
	c.worker.machined.imports = func(stream importStream) error { // hangs
		<-stream.Context().Done()
		return stream.Context().Err()
	}
	answers, err := spreadTo(t, c.cp1.admin(t), 60, "worker", "cp-1", "cp-2")
	if err != nil {
		t.Fatal(err)
	}
	if got := failure(answers["worker"]); !strings.HasPrefix(got, "Aborted: the node was too slow for the others, which waited for it for") {
		t.Errorf("worker: %s", got)
	}
	for _, name := range []string{"cp-1", "cp-2"} {
		if answers[name].GetFailure() != nil || stores[name].got.Len() != 60*len(chunk(0)) {
			t.Errorf("%s: %v", name, answers[name])
		}
	}
}

// Nodes that are slow together hold nobody up; nor does one by itself.
func TestNodesThatAreAllSlowAreWaitedFor(t *testing.T) {
	c := startCluster(t, nil)
	stores := c.keep()
	limits := &c.cp1.server.spreader.limits
	limits.patience, limits.pace, limits.look = time.Second, 1<<40, 10*time.Millisecond
	start := make(chan struct{})
	for name, node := range map[string]*testNode{"cp-1": c.cp1, "cp-2": c.cp2} {
		node.machined.imports = func(stream importStream) error {
			<-start
			return stores[name].importAll(stream)
		}
	}
	// Both begin long after patience has run out.
	time.AfterFunc(5*limits.patience/2, func() { close(start) })
	answers, err := spreadTo(t, c.cp1.admin(t), 40, "cp-1", "cp-2")
	if err != nil {
		t.Fatal(err)
	}
	for name, answer := range answers {
		if answer.GetFailure() != nil {
			t.Errorf("%s: %s", name, failure(answer))
		}
	}
}

func TestNodesThatTakeNothingAreGivenUp(t *testing.T) {
	c := startCluster(t, nil)
	limits := &c.cp1.server.spreader.limits
	limits.stall, limits.answer, limits.look = 200*time.Millisecond, 200*time.Millisecond, 10*time.Millisecond
	c.cp1.machined.imports = func(stream importStream) error {
		<-stream.Context().Done()
		return stream.Context().Err()
	}
	for count, want := range map[int]string{
		60: "Aborted: the node took nothing for 200ms",
		1:  "Aborted: the node got the whole archive and did not say within 200ms",
	} {
		answers, err := spreadTo(t, c.cp1.admin(t), count, "cp-1")
		if got := failure(answers["cp-1"]); err != nil || !strings.HasPrefix(got, want) {
			t.Errorf("%d chunks: %v, %s, want %s", count, err, got, want)
		}
	}
}

func TestAClientThatGoesAwayLeavesNothingOnAnyNode(t *testing.T) {
	c := startCluster(t, nil)
	c.cp1.server.spreader.limits.client = 200 * time.Millisecond
	begun, ended := make(chan struct{}, 3), make(chan error, 3)
	for _, node := range []*testNode{c.cp1, c.cp2, c.worker} {
		node.machined.imports = func(stream importStream) error {
			for first := true; ; first = false {
				if _, err := stream.Recv(); err != nil {
					ended <- err
					return err
				}
				if first {
					begun <- struct{}{}
				}
			}
		}
	}
	for _, test := range []struct {
		name   string
		goAway bool
		want   codes.Code
	}{{"cancels", true, codes.Canceled}, {"says nothing", false, codes.Aborted}} {
		ctx, cancel := context.WithCancel(testContext(t))
		stream, err := imagepb.NewImageServiceClient(c.cp1.admin(t)).Spread(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if err := stream.Send(&imagepb.SpreadRequest{Nodes: []string{"cp-1", "cp-2", "worker"}, Chunk: chunk(0)}); err != nil {
			t.Fatal(err)
		}
		for range 3 {
			<-begun
		}
		if test.goAway {
			cancel()
		}
		for range 3 {
			select {
			case err := <-ended:
				if errors.Is(err, io.EOF) {
					t.Errorf("%s: a node took half an archive for a whole one", test.name)
				}
			case <-time.After(testDeadline):
				t.Fatalf("%s: a node's call goes on", test.name)
			}
		}
		if _, err := answersOf(stream); status.Code(err) != test.want {
			t.Errorf("%s: %v, want %s", test.name, err, test.want)
		}
		cancel()
	}
}

func TestSpreadsThatCannotBegin(t *testing.T) {
	c := startCluster(t, nil)
	c.keep()
	admin := c.cp1.admin(t)
	many := make([]string, maxSpread+1)
	for i := range many {
		many[i] = fmt.Sprint("node-", i)
	}
	for _, test := range []struct {
		conn  *grpc.ClientConn
		nodes []string
		want  codes.Code
		says  string
	}{
		{admin, nil, codes.InvalidArgument, "names no node"},
		{admin, many, codes.InvalidArgument, "at most 64 nodes"},
		{admin, []string{"cp-1", ""}, codes.InvalidArgument, "empty or too long"},
		{admin, []string{"worker", "cp-2", "127.0.0.4"}, codes.InvalidArgument, `"worker" and "127.0.0.4" are the same node`},
		{admin, []string{"127.0.0.2", "cp-1"}, codes.InvalidArgument, "are the same node"},
		{c.cp1.dial(t, c.cp1.ca, c.cp1.client("rita", identity.Reader)), []string{"cp-1"}, codes.PermissionDenied, "os:operator"},
	} {
		if answers, err := spreadTo(t, test.conn, 1, test.nodes...); status.Code(err) != test.want || !strings.Contains(err.Error(), test.says) || len(answers) > 0 {
			t.Errorf("%q: %v, %v, want %s with %q", test.nodes, answers, err, test.want, test.says)
		}
	}
	if calls := c.cp1.machined.calls.Load() + c.cp2.machined.calls.Load() + c.worker.machined.calls.Load(); calls != 0 {
		t.Errorf("machined was called %d times", calls)
	}
	for name, node := range c.cp1.server.others.pool.nodes {
		if node.calls != 0 {
			t.Errorf("%d calls to %s are left", node.calls, name)
		}
	}
	if answers, err := spreadTo(t, c.worker.admin(t), 1, "cp-1", "worker"); err != nil || answers["worker"].GetFailure() != nil ||
		!strings.Contains(failure(answers["cp-1"]), "use a control-plane node as endpoint") {
		t.Errorf("through a worker: %v, %v", answers, err)
	}
	stream, err := imagepb.NewImageServiceClient(admin).Spread(testContext(t))
	if err != nil {
		t.Fatal(err)
	}
	_ = stream.Send(&imagepb.SpreadRequest{Nodes: []string{"cp-2"}})
	_ = stream.Send(&imagepb.SpreadRequest{Chunk: make([]byte, maxSpreadMessage)})
	if _, err := answersOf(stream); status.Code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), "at most") {
		t.Errorf("a chunk that is too large: %v", err)
	}
}

func TestSpreadsTakeTurns(t *testing.T) {
	c := startCluster(t, nil)
	c.keep()
	c.cp1.server.spreader.limits.turn = 100 * time.Millisecond
	conn := c.cp1.admin(t)
	first, err := imagepb.NewImageServiceClient(conn).Spread(testContext(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := first.Send(&imagepb.SpreadRequest{Nodes: []string{"cp-1"}}); err != nil {
		t.Fatal(err)
	}
	await(t, "the first call's turn", func() bool { return len(c.cp1.server.spreader.turns) == 1 })
	if _, err := spreadTo(t, conn, 1, "cp-2"); status.Code(err) != codes.ResourceExhausted || !strings.Contains(err.Error(), "another archive") {
		t.Errorf("meanwhile: %v", err)
	}
	_ = first.CloseSend()
	if answers, err := answersOf(first); err != nil || answers["cp-1"].GetFailure() != nil {
		t.Errorf("the first: %v, %v", answers, err)
	}
	if answers, err := spreadTo(t, conn, 1, "cp-2"); err != nil || answers["cp-2"].GetFailure() != nil {
		t.Errorf("after it: %v, %v", answers, err)
	}
}
