package main

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/status"

	imagepb "github.com/keelson-os/keelson/pkg/api/image"
)

const (
	// maxSpread is how many nodes one archive is spread over: as many as may have
	// a connection from here.
	maxSpread = maxOthers
	// maxSpreadMessage is bytes of one message: a chunk of 1 MiB and what is around
	// it, or the names of all nodes.
	maxSpreadMessage = 1<<20 + 32<<10
	// spreadQueue is how many messages a node may be behind the client. All nodes
	// share the messages: this, not the number of nodes, is what a call holds.
	spreadQueue = 8
)

// spreadLimits are what one node of several may cost the others.
type spreadLimits struct {
	// turn is how long a call waits for another one to end.
	turn time.Duration
	// client is how long the client may send nothing.
	client time.Duration
	// patience is how long the others wait for one node, and pace the bytes per
	// second from which on they wait longer: one second for each of them.
	patience time.Duration
	pace     int64
	// look is how often it is looked whom the others wait for.
	look time.Duration
	// stall is how long a node may take nothing at all, if no other waits for it.
	stall time.Duration
	// answer is how long a node may unpack what it has got.
	answer time.Duration
}

var defaultSpreadLimits = spreadLimits{
	turn: 10 * time.Minute, client: 5 * time.Minute,
	patience: 30 * time.Second, pace: 1 << 20, look: 250 * time.Millisecond,
	stall: 5 * time.Minute, answer: 15 * time.Minute,
}

// spreader answers ImageService.Spread: it tees one archive to the machined of
// this node and, through their apids, to those of others. It is a star, not a
// chain: only control-plane nodes may call others, a call that was passed on
// is not passed on again, and in a chain one slow or dead node is everybody's.
type spreader struct {
	others   *others
	machined backend
	limits   spreadLimits
	// turns holds a token while an archive is spread: a node imports one at a
	// time, and two calls could wait for each other's nodes.
	turns chan struct{}
}

func newSpreader(others *others, machined backend) *spreader {
	return &spreader{others: others, machined: machined, limits: defaultSpreadLimits, turns: make(chan struct{}, 1)}
}

// register makes the server answer Spread; the service's other methods are
// routed, as they were.
func (s *spreader) register(server *grpc.Server) {
	server.RegisterService(&grpc.ServiceDesc{
		ServiceName: imagepb.ImageService_ServiceDesc.ServiceName,
		HandlerType: (*any)(nil),
		Streams:     []grpc.StreamDesc{{StreamName: "Spread", Handler: s.spread, ClientStreams: true, ServerStreams: true}},
	}, s)
}

// spread serves one call.
func (s *spreader) spread(_ any, front grpc.ServerStream) error {
	var first frame
	if err := front.RecvMsg(&first); errors.Is(err, io.EOF) {
		return status.Error(codes.InvalidArgument, "no archive was sent")
	} else if err != nil {
		return err
	}
	var request imagepb.SpreadRequest
	if err := checkSize(&first); err != nil {
		return err
	}
	if err := encoding.GetCodecV2(proto.Name).Unmarshal(first.data, &request); err != nil {
		return status.Errorf(codes.InvalidArgument, "the first message cannot be read: %s", err)
	}
	if err := checkNodes(request.GetNodes()); err != nil {
		return err
	}
	if err := s.takeTurn(front.Context()); err != nil {
		return err
	}
	done := sync.OnceFunc(func() { <-s.turns })
	defer done()

	ctx, cancel := context.WithCancelCause(front.Context())
	defer cancel(nil)
	answers := make(chan *imagepb.SpreadResponse, len(request.GetNodes()))
	targets, err := s.start(ctx, request.GetNodes(), answers)
	if err != nil {
		return err
	}
	var sending sync.WaitGroup
	sending.Go(func() {
		for answer := range answers {
			_ = front.SendMsg(answer) // fails only when the client is gone
		}
	})
	err = s.tee(ctx, &first, front, targets)
	if err != nil {
		cancel(err)
	}
	for _, target := range targets {
		<-target.ended
	}
	done()
	close(answers)
	sending.Wait()
	return err
}

func checkNodes(names []string) error {
	if len(names) == 0 {
		return status.Error(codes.InvalidArgument, "the first message names no node")
	}
	if len(names) > maxSpread {
		return status.Errorf(codes.InvalidArgument, "an archive is spread over at most %d nodes at a time, not over %d", maxSpread, len(names))
	}
	for _, name := range names {
		if err := checkNodeName(name); err != nil {
			return err
		}
	}
	return nil
}

func checkSize(message *frame) error {
	if size := message.data.Len(); size > maxSpreadMessage {
		return status.Errorf(codes.InvalidArgument, "a message of %d bytes; at most %d are allowed", size, maxSpreadMessage)
	}
	return nil
}

func (s *spreader) takeTurn(ctx context.Context) error {
	late := time.NewTimer(s.limits.turn)
	defer late.Stop()
	select {
	case s.turns <- struct{}{}:
		return nil
	case <-late.C:
		return status.Errorf(codes.ResourceExhausted, "another archive has been spread through this node for %s: try again later, or use another endpoint", s.limits.turn)
	case <-ctx.Done():
		return status.FromContextError(ctx.Err()).Err()
	}
}

// start finds the nodes and calls each; what cannot be called is answered for.
// An error means that none was.
func (s *spreader) start(ctx context.Context, names []string, answers chan<- *imagepb.SpreadResponse) ([]*target, error) {
	found := map[string]string{}
	var targets []*target
	for _, name := range names {
		to, err := s.find(ctx, name)
		target := &target{
			name: name, backend: to, failed: err, answers: answers, limits: &s.limits,
			queue: make(chan *frame, spreadQueue), ended: make(chan struct{}),
		}
		targets = append(targets, target)
		if err != nil {
			continue
		}
		if other, twice := found[to.node()]; twice {
			for _, target := range targets {
				target.release()
			}
			return nil, status.Errorf(codes.InvalidArgument, "%q and %q are the same node: name it once", other, name)
		}
		found[to.node()] = name
	}
	for _, target := range targets {
		ctx, giveUp := context.WithCancelCause(ctx)
		target.giveUp = giveUp
		go target.run(ctx)
	}
	return targets, nil
}

// find returns the way to a node, this one's machined included.
func (s *spreader) find(ctx context.Context, name string) (backend, error) {
	other, err := s.others.find(ctx, name)
	if err != nil {
		return nil, err
	}
	if other == nil {
		return s.machined, nil
	}
	return other, nil
}

// tee hands every message of the client to all nodes that still take them. It
// returns when the client is done or no node is left, with an error if the
// client did not go through with it.
func (s *spreader) tee(ctx context.Context, first *frame, front grpc.ServerStream, targets []*target) error {
	messages, over := receive(front, first), over(targets)
	silence := time.NewTimer(s.limits.client)
	defer silence.Stop()
	for live := targets; len(live) > 0; {
		var message received
		silence.Reset(s.limits.client)
		select {
		case message = <-messages:
		case <-over:
			return nil
		case <-silence.C:
			return status.Errorf(codes.Aborted, "the client sent nothing for %s: nothing was imported", s.limits.client)
		case <-ctx.Done():
			return status.FromContextError(ctx.Err()).Err()
		}
		if errors.Is(message.err, io.EOF) {
			for _, target := range live {
				close(target.queue)
			}
			return nil
		} else if message.err != nil {
			return message.err
		}
		for _, target := range live {
			message.frame.data.Ref()
			if !target.offer(ctx, message.frame, live) {
				message.frame.data.Free()
			}
		}
		message.frame.data.Free()
		live = left(live)
	}
	return nil
}

// received is a message of the client, or the end of them.
type received struct {
	frame *frame
	err   error
}

// receive reads ahead by one message. It ends with the call at the latest.
func receive(front grpc.ServerStream, first *frame) <-chan received {
	messages := make(chan received)
	go func() {
		for next := (received{frame: first}); ; {
			select {
			case messages <- next:
			case <-front.Context().Done():
				return
			}
			if next.err != nil {
				return
			}
			next = received{frame: &frame{}}
			if next.err = front.RecvMsg(next.frame); next.err == nil {
				next.err = checkSize(next.frame)
			}
		}
	}()
	return messages
}

// left are the targets that have not ended.
func left(targets []*target) []*target {
	var live []*target
	for _, target := range targets {
		select {
		case <-target.ended:
		default:
			live = append(live, target)
		}
	}
	return live
}

// over is closed when all targets have ended.
func over(targets []*target) <-chan struct{} {
	all := make(chan struct{})
	go func() {
		defer close(all)
		for _, target := range targets {
			<-target.ended
		}
	}()
	return all
}
