package main

import (
	"context"
	"errors"
	"io"
	"slices"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	imagepb "github.com/keelson-os/keelson/pkg/api/image"
)

// target is one node that an archive is spread to.
type target struct {
	name    string // as the client has it
	backend backend
	// failed is why there is no backend.
	failed  error
	limits  *spreadLimits
	answers chan<- *imagepb.SpreadResponse

	// queue is what the node has yet to take; it is closed after the last
	// message. ended is closed when the node was answered for.
	queue chan *frame
	ended chan struct{}
	// giveUp ends the node's call, for a reason that becomes its answer.
	giveUp context.CancelCauseFunc
	// taken is bytes that went to the node; heldUp is how long others waited for it.
	taken  atomic.Int64
	heldUp time.Duration
}

// run calls the node's Import with what is queued, and answers for it.
func (t *target) run(ctx context.Context) {
	defer close(t.ended)
	defer t.giveUp(nil)
	defer t.release()
	answer := &imagepb.SpreadResponse{Node: t.name}
	images, err := t.call(ctx)
	if gaveUp := context.Cause(ctx); gaveUp != nil && err != nil {
		err = gaveUp
	}
	if err != nil {
		failure := status.Convert(err)
		answer.Failure = &imagepb.SpreadFailure{Code: uint32(failure.Code()), Message: failure.Message()}
	}
	answer.Images = images
	t.answers <- answer // has room for every node
}

func (t *target) call(ctx context.Context) ([]*imagepb.Image, error) {
	if t.failed != nil {
		return nil, t.failed
	}
	outgoing, err := passOn(ctx, t.backend.node())
	if err != nil {
		return nil, err
	}
	back, err := t.backend.NewStream(outgoing, &anyCall, imagepb.ImageService_Import_FullMethodName)
	if err != nil {
		return nil, t.backend.explain(err, false)
	}
	for more := true; more; {
		var message *frame
		select {
		case message, more = <-t.queue:
		case <-ctx.Done():
			return nil, status.FromContextError(ctx.Err()).Err()
		}
		if !more {
			break
		}
		size := int64(message.data.Len())
		if err := back.SendMsg(message); err != nil {
			break // RecvMsg says why
		}
		t.taken.Add(size)
	}
	_ = back.CloseSend() // RecvMsg says what went wrong
	late := time.AfterFunc(t.limits.answer, func() {
		t.giveUp(status.Errorf(codes.Aborted, "the node got the whole archive and did not say within %s that it is imported: osctl image list and osctl logs containerd on it say more", t.limits.answer))
	})
	defer late.Stop()
	var response imagepb.ImportResponse
	if err := back.RecvMsg(&response); errors.Is(err, io.EOF) {
		return nil, status.Error(codes.Internal, "the node ended the call without an answer")
	} else if err != nil {
		return nil, t.backend.explain(err, true)
	}
	return response.GetImages(), nil
}

// offer queues a message, which the node then frees. It waits while the queue
// is full, and gives the node up when that goes on at the others' cost.
func (t *target) offer(ctx context.Context, message *frame, live []*target) bool {
	select {
	case <-t.ended:
		return false
	case t.queue <- message:
		return true
	default:
	}
	tick := time.NewTicker(t.limits.look)
	defer tick.Stop()
	for began := time.Now(); ; {
		select {
		case t.queue <- message:
			return true
		case <-t.ended:
			return false
		case <-ctx.Done():
			return false
		case <-tick.C:
		}
		if slices.ContainsFunc(live, (*target).waits) {
			t.heldUp += t.limits.look
		}
		taken := t.taken.Load()
		switch {
		case t.heldUp > t.limits.patience+time.Duration(float64(taken)/float64(t.limits.pace)*float64(time.Second)):
			t.giveUp(status.Errorf(codes.Aborted, "the node was too slow for the others, which waited for it for %s: it had taken %d MiB. Import there again, by itself", t.heldUp.Round(time.Second), taken>>20))
		case time.Since(began) > t.limits.stall:
			t.giveUp(status.Errorf(codes.Aborted, "the node took nothing for %s, after %d MiB: another import may be under way on it. Try again there", t.limits.stall, taken>>20))
		default:
			continue
		}
		<-t.ended
		return false
	}
}

// waits tells that the node has taken everything there was.
func (t *target) waits() bool {
	select {
	case <-t.ended:
		return false
	default:
		return len(t.queue) == 0
	}
}

// release gives the connection back.
func (t *target) release() {
	if other, ok := t.backend.(*otherNode); ok {
		other.release()
	}
}
