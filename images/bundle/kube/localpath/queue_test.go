package localpath

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// What fails is tried again after 5, 10, 20 … seconds, though its object changes
// every second, as that of a claim does that the scheduler sends here again and
// again. Once it works nothing is held against it.
func TestQueueHoldsBackWhatFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		q := newQueue[string]()
		began := time.Now()
		var at []int
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			q.work(ctx, func(context.Context, string) (time.Duration, error) {
				at = append(at, int(time.Since(began)/time.Second))
				if len(at) < 4 {
					return 0, errors.New("does not fit")
				}
				return 0, nil
			})
		}()
		for range 37 {
			q.Add("claim")
			time.Sleep(time.Second)
		}
		stop()
		<-ended
		if want := []int{0, 5, 15, 35, 36}; !slices.Equal(slices.Compact(at), want) {
			t.Errorf("tried after %d seconds, want %d", at, want)
		}
		if len(q.until) != 0 {
			t.Errorf("still remembered: %v", q.until)
		}
	})
}

func TestQueueComesBackWhenAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		q := newQueue[string]()
		began := time.Now()
		var at []time.Duration
		q.Add("claim")
		q.work(ctx, func(context.Context, string) (time.Duration, error) {
			if at = append(at, time.Since(began)); len(at) == 3 {
				stop()
			}
			return foreignEvery, nil
		})
		if want := []time.Duration{0, foreignEvery, 2 * foreignEvery}; !slices.Equal(at, want) {
			t.Errorf("came after %s, want %s", at, want)
		}
		synctest.Wait()
	})
}
