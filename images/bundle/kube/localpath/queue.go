package localpath

import (
	"context"
	"time"

	"k8s.io/client-go/util/workqueue"
	"k8s.io/klog/v2"
)

// Pauses after a failure: most are for a person to mend, or pass by themselves.
const (
	retryFirst = 5 * time.Second
	retryMax   = 10 * time.Minute
)

// queue hands keys to one worker. It has no name, because the metrics of one
// that has wake the process twice a second for ever.
type queue[K comparable] struct {
	workqueue.TypedDelayingInterface[K]
	failures workqueue.TypedRateLimiter[K]
	until    map[K]time.Time // failed before, and not to be tried until; the worker's own
}

func newQueue[K comparable]() *queue[K] {
	return &queue[K]{
		TypedDelayingInterface: workqueue.NewTypedDelayingQueue[K](),
		failures:               workqueue.NewTypedItemExponentialFailureRateLimiter[K](retryFirst, retryMax),
		until:                  map[K]time.Time{},
	}
}

// work handles keys until ctx ends. What failed is tried again later and later,
// however often its object changes meanwhile: the scheduler may choose a node
// again and again that refuses. handle may ask to be called again after a while.
func (q *queue[K]) work(ctx context.Context, handle func(context.Context, K) (time.Duration, error)) {
	defer context.AfterFunc(ctx, q.ShutDown)()
	for {
		key, end := q.Get()
		if end {
			return
		}
		q.one(ctx, key, handle)
		q.Done(key)
	}
}

func (q *queue[K]) one(ctx context.Context, key K, handle func(context.Context, K) (time.Duration, error)) {
	if early := time.Until(q.until[key]); early > 0 {
		q.AddAfter(key, early)
		return
	}
	again, err := handle(ctx, key)
	if ctx.Err() != nil {
		return
	}
	if err != nil {
		again = q.failures.When(key)
		q.until[key] = time.Now().Add(again)
		klog.ErrorS(err, "Trying again", "object", key, "after", again)
	} else {
		q.failures.Forget(key)
		delete(q.until, key)
	}
	if again > 0 {
		q.AddAfter(key, again)
	}
}
