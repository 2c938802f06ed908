package kubernetes

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// switched is an API that answers while it is on.
type switched struct {
	on    atomic.Bool
	asked atomic.Int64
}

func (s *switched) RoundTrip(*http.Request) (*http.Response, error) {
	s.asked.Add(1)
	if !s.on.Load() {
		return nil, errors.New("connect: connection refused")
	}
	return &http.Response{StatusCode: http.StatusOK, Body: http.NoBody}, nil
}

func TestTheAPIIsFoundAgainAndAskedNothingMeanwhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := &switched{}
		k := testKubernetes(t, Options{})
		k.api = &client{base: "https://127.0.0.1:7445", http: &http.Client{Transport: api}, minted: time.Now()}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go k.FollowAPI(ctx)
		for range 3 {
			time.Sleep(time.Minute)
			if k.serving.has() || k.ready.has() {
				t.Fatal("an API that does not answer can be used")
			}
			k.loseAPI() // while it is lost
			api.on.Store(true)
			time.Sleep(2 * askMax)
			if !k.serving.has() || !k.ready.has() {
				t.Fatal("the API is not found again")
			}
			k.loseAPI() // of a request that failed before
			k.loseAPI()
			time.Sleep(askFirst)
			if !k.serving.has() || !k.ready.has() {
				t.Fatal("the API is not found at once")
			}
			asked := api.asked.Load()
			time.Sleep(time.Hour)
			if more := api.asked.Load() - asked; more != 0 {
				t.Errorf("asked %d times while it answers", more)
			}
			api.on.Store(false)
			k.unreachable(errors.New("connection reset"))
		}
	})
}

func TestAnswersThatRefuseLoseNoAPI(t *testing.T) {
	k := testKubernetes(t, Options{})
	k.serving.reach()
	for _, err := range []error{nil, &statusError{http.StatusInternalServerError, "etcdserver: no leader"}, fmt.Errorf("GET: %w", context.Canceled)} {
		if k.unreachable(err); !k.serving.has() {
			t.Errorf("%v: lost", err)
		}
	}
}
