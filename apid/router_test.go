package main

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	imagepb "github.com/keelson-os/keelson/pkg/api/image"
	machinepb "github.com/keelson-os/keelson/pkg/api/machine"
	"github.com/keelson-os/keelson/pkg/identity"
)

func TestMachinedLearnsWhoCallsFromApidOnly(t *testing.T) {
	n := startNode(t, nil)
	n.machined.version = func(ctx context.Context) (*machinepb.VersionResponse, error) {
		return &machinepb.VersionResponse{
			Version: incoming(ctx, identity.MetadataUser) + " until " + incoming(ctx, identity.MetadataUntil), Kernel: incoming(ctx, identity.MetadataRole),
			Go: incoming(ctx, "keelson-anything"), Hostname: incoming(ctx, "request-id"),
		}, nil
	}
	ctx := metadata.AppendToOutgoingContext(testContext(t), identity.MetadataUser, "root", identity.MetadataRole, identity.Admin,
		identity.MetadataUntil, "2999-01-01T00:00:00Z", "keelson-anything", "x", "request-id", "7")
	rita := n.client("rita", identity.Reader, "os:unheard-of")
	rita.Now = time.Now() // both certificates made of it expire at one time
	until := certificateOf(t, n.ca, rita).NotAfter.UTC().Format(time.RFC3339)
	conn := n.dial(t, n.ca, rita)
	got, err := machinepb.NewMachineServiceClient(conn).Version(ctx, &machinepb.VersionRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if got.Version != "rita until "+until || got.Kernel != "os:reader,os:unheard-of" {
		t.Errorf("machined was told user %q and roles %q", got.Version, got.Kernel)
	}
	if got.Go != "" || got.Hostname != "7" {
		t.Errorf("of the client's metadata machined got %q and %q", got.Go, got.Hostname)
	}
}

func TestStatusDetailsHeadersAndTrailersComeBack(t *testing.T) {
	n := startNode(t, nil)
	n.machined.version = func(ctx context.Context) (*machinepb.VersionResponse, error) {
		_ = grpc.SetHeader(ctx, metadata.Pairs("a-header", "1"))
		_ = grpc.SetTrailer(ctx, metadata.Pairs("a-trailer", "2"))
		s, err := status.New(codes.FailedPrecondition, "not now").WithDetails(&errdetails.ErrorInfo{Reason: "TEST"})
		if err != nil {
			return nil, err
		}
		return nil, s.Err()
	}
	var header, trailer metadata.MD
	_, err := machinepb.NewMachineServiceClient(n.admin(t)).Version(testContext(t), &machinepb.VersionRequest{},
		grpc.Header(&header), grpc.Trailer(&trailer))
	s := status.Convert(err)
	if s.Code() != codes.FailedPrecondition || s.Message() != "not now" {
		t.Errorf("got %v", err)
	}
	if len(s.Details()) != 1 || s.Details()[0].(*errdetails.ErrorInfo).GetReason() != "TEST" {
		t.Errorf("details: %v", s.Details())
	}
	if got := append(header.Get("a-header"), trailer.Get("a-header")...); len(got) != 1 {
		t.Errorf("header %v, trailer %v", header, trailer)
	}
	if got := trailer.Get("a-trailer"); len(got) != 1 || got[0] != "2" {
		t.Errorf("trailer %v", trailer)
	}
}

func TestStreamsPassBothWays(t *testing.T) {
	n := startNode(t, nil)
	n.machined.events = func(stream grpc.ServerStreamingServer[machinepb.Event]) error {
		for i := range 100 {
			if err := stream.Send(&machinepb.Event{Sequence: uint64(i)}); err != nil {
				return err
			}
		}
		return nil
	}
	conn := n.admin(t)
	events, err := machinepb.NewMachineServiceClient(conn).Events(testContext(t), &machinepb.EventsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	for want := range uint64(100) {
		if event, err := events.Recv(); err != nil || event.GetSequence() != want {
			t.Fatalf("event %d: got %v, %v", want, event, err)
		}
	}
	if _, err := events.Recv(); !errors.Is(err, io.EOF) {
		t.Errorf("after the last event: %v", err)
	}

	upload, err := imagepb.NewImageServiceClient(conn).Import(testContext(t))
	if err != nil {
		t.Fatal(err)
	}
	for range 20 {
		if err := upload.Send(&imagepb.ImportRequest{Chunk: make([]byte, 1<<20)}); err != nil {
			t.Fatal(err)
		}
	}
	answer, err := upload.CloseAndRecv()
	if err != nil || answer.GetImages()[0].GetSize() != 20<<20 {
		t.Errorf("got %v, %v", answer, err)
	}
}

func TestDeadlineAndCancellationReachMachined(t *testing.T) {
	n := startNode(t, nil)
	deadline := make(chan time.Time, 1)
	ended := make(chan error, 1)
	n.machined.events = func(stream grpc.ServerStreamingServer[machinepb.Event]) error {
		at, _ := stream.Context().Deadline()
		deadline <- at
		if err := stream.Send(&machinepb.Event{}); err != nil {
			return err
		}
		<-stream.Context().Done()
		ended <- stream.Context().Err()
		return stream.Context().Err()
	}
	ctx, cancel := context.WithTimeout(testContext(t), time.Minute)
	defer cancel()
	events, err := machinepb.NewMachineServiceClient(n.admin(t)).Events(ctx, &machinepb.EventsRequest{Follow: true})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := events.Recv(); err != nil {
		t.Fatal(err)
	}
	if left := time.Until(<-deadline); left <= 0 || left > time.Minute {
		t.Errorf("machined has %s left", left)
	}
	cancel()
	select {
	case <-ended:
	case <-time.After(testDeadline):
		t.Fatal("machined's stream goes on after the client has gone")
	}
}

// A backend that sends more than its client reads must come to a halt: apid
// holds no queue.
func TestAClientThatDoesNotReadStopsTheSender(t *testing.T) {
	n := startNode(t, nil)
	halted, all := make(chan struct{}), make(chan struct{})
	n.machined.events = func(stream grpc.ServerStreamingServer[machinepb.Event]) error {
		message := strings.Repeat("x", 1<<20)
		for range 64 {
			halt := time.AfterFunc(time.Second, func() { close(halted) })
			err := stream.Send(&machinepb.Event{Message: message})
			if !halt.Stop() || err != nil {
				return err
			}
		}
		close(all)
		return nil
	}
	ctx, cancel := context.WithCancel(testContext(t))
	defer cancel()
	events, err := machinepb.NewMachineServiceClient(n.admin(t)).Events(ctx, &machinepb.EventsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := events.Header(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-halted:
	case <-all:
		t.Error("64 MiB were taken from machined though the client read nothing")
	case <-ctx.Done():
		t.Error("the stream neither halts nor ends")
	}
}

func TestTooLargeARequestIsRefusedWithItsReason(t *testing.T) {
	n := startNode(t, nil)
	upload, err := imagepb.NewImageServiceClient(n.admin(t)).Import(testContext(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := upload.Send(&imagepb.ImportRequest{Chunk: make([]byte, maxRequest+1)}); err != nil && !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	if _, err := upload.CloseAndRecv(); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("got %v, want ResourceExhausted", err)
	}
}

func TestMachinedThatIsDownIsSaidSo(t *testing.T) {
	n := startNode(t, nil)
	client := machinepb.NewMachineServiceClient(n.admin(t))
	n.machined.server.Stop()
	_, err := client.Version(testContext(t), &machinepb.VersionRequest{})
	if status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "machined does not answer") {
		t.Errorf("got %v", err)
	}
	again := &fakeMachined{}
	again.serve(t, n.options.machined)
	awaitVersion(t, client)
}

// awaitVersion calls until machined is connected again; each call waits for the
// connection's next attempt or fails at once.
func awaitVersion(t *testing.T, client machinepb.MachineServiceClient) {
	t.Helper()
	ctx := testContext(t)
	retry := time.NewTicker(50 * time.Millisecond)
	defer retry.Stop()
	for {
		_, err := client.Version(ctx, &machinepb.VersionRequest{})
		if err == nil {
			return
		}
		select {
		case <-retry.C:
		case <-ctx.Done():
			t.Fatalf("machined is back, but calls still fail: %v", err)
		}
	}
}
