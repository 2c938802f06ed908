package api

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/keelson-os/keelson/pkg/api/upgrade"
)

// fakeSlots takes what it is sent.
type fakeSlots struct {
	got     strings.Builder
	options *upgrade.UpgradeOptions
	err     error
}

func (f *fakeSlots) Upgrade(_ context.Context, bundle io.Reader, options *upgrade.UpgradeOptions, tell func(*upgrade.UpgradeResponse) error) error {
	f.options = options
	if _, err := io.Copy(&f.got, bundle); err != nil {
		return err
	}
	if f.err != nil {
		return f.err
	}
	return tell(&upgrade.UpgradeResponse{Done: true})
}

func (f *fakeSlots) Rollback(context.Context, *upgrade.RollbackRequest) (*upgrade.RollbackResponse, error) {
	return &upgrade.RollbackResponse{}, f.err
}

func (f *fakeSlots) Slots(context.Context) (*upgrade.SlotsResponse, error) {
	return &upgrade.SlotsResponse{Running: "a"}, f.err
}

func TestUpgrade(t *testing.T) {
	s := serve(t)
	client := upgrade.NewUpgradeServiceClient(s)
	if _, err := client.Slots(t.Context(), &upgrade.SlotsRequest{}); status.Code(err) != codes.FailedPrecondition {
		t.Errorf("a node without slots: %v", err)
	}
	slots := &fakeSlots{}
	s.server.SetUpgrader(slots)
	send := func(first *upgrade.UpgradeRequest, chunks ...string) (*upgrade.UpgradeResponse, error) {
		stream, err := client.Upgrade(t.Context())
		must(t, err)
		must(t, stream.Send(first))
		for _, chunk := range chunks {
			if stream.Send(&upgrade.UpgradeRequest{Chunk: []byte(chunk)}) != nil {
				break
			}
		}
		must(t, stream.CloseSend())
		return stream.Recv()
	}
	if _, err := send(&upgrade.UpgradeRequest{Chunk: []byte("x")}); status.Code(err) != codes.InvalidArgument {
		t.Errorf("no options: %v", err)
	}
	answer, err := send(&upgrade.UpgradeRequest{Options: &upgrade.UpgradeOptions{Stage: true}, Chunk: []byte("one ")}, "two ", "", "three")
	if err != nil || !answer.GetDone() || slots.got.String() != "one two three" || !slots.options.GetStage() {
		t.Errorf("%v, %v: the node got %q, %v", answer, err, slots.got.String(), slots.options)
	}
	slots.err = status.Error(codes.PermissionDenied, "not signed")
	if _, err := send(&upgrade.UpgradeRequest{Options: &upgrade.UpgradeOptions{}}); status.Code(err) != codes.PermissionDenied {
		t.Errorf("refused: %v", err)
	}
	slots.err = errors.New("the other slot is empty")
	if _, err := client.Rollback(t.Context(), &upgrade.RollbackRequest{}); status.Code(err) != codes.FailedPrecondition || !strings.Contains(err.Error(), "empty") {
		t.Errorf("a rollback that cannot be: %v", err)
	}
}
