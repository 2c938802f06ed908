package workloads

import (
	"context"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

func TestPlacesAreWaitedFor(t *testing.T) {
	p := make(places, 1)
	release, err := p.take(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := p.take(ended); status.Code(err) != codes.Canceled {
		t.Errorf("a call that gives up waiting: %v, want Canceled", err)
	}
	release()
	if _, err := p.take(t.Context()); err != nil {
		t.Errorf("after the place was given back: %v", err)
	}
}
