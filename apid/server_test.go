package main

import (
	"crypto/tls"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	reflectionpb "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"

	clusterpb "github.com/keelson-os/keelson/pkg/api/cluster"
	machinepb "github.com/keelson-os/keelson/pkg/api/machine"
	workloadpb "github.com/keelson-os/keelson/pkg/api/workload"
	"github.com/keelson-os/keelson/pkg/client"
	"github.com/keelson-os/keelson/pkg/identity"
)

func writeFile(t testing.TB, name, content string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestReflectionAndHealthAnswer(t *testing.T) {
	n := startNode(t, nil)
	conn := n.dial(t, n.ca, n.client("rita", identity.Reader))
	health, err := healthpb.NewHealthClient(conn).Check(testContext(t), &healthpb.HealthCheckRequest{})
	if err != nil || health.GetStatus() != healthpb.HealthCheckResponse_SERVING {
		t.Errorf("health: %v, %v", health, err)
	}
	stream, err := reflectionpb.NewServerReflectionClient(conn).ServerReflectionInfo(testContext(t))
	if err != nil {
		t.Fatal(err)
	}
	ask := func(request *reflectionpb.ServerReflectionRequest) *reflectionpb.ServerReflectionResponse {
		t.Helper()
		if err := stream.Send(request); err != nil {
			t.Fatal(err)
		}
		answer, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		return answer
	}
	var names []string
	list := ask(&reflectionpb.ServerReflectionRequest{MessageRequest: &reflectionpb.ServerReflectionRequest_ListServices{}})
	for _, service := range list.GetListServicesResponse().GetService() {
		names = append(names, service.GetName())
	}
	slices.Sort(names)
	if want := slices.Sorted(maps.Keys(served{}.GetServiceInfo())); !slices.Equal(names, want) || len(names) < 8 {
		t.Errorf("services %q, want %q", names, want)
	}
	file := ask(&reflectionpb.ServerReflectionRequest{MessageRequest: &reflectionpb.ServerReflectionRequest_FileContainingSymbol{
		FileContainingSymbol: "keelson.machine.v1.MachineService",
	}})
	if len(file.GetFileDescriptorResponse().GetFileDescriptorProto()) == 0 {
		t.Errorf("a service that is routed elsewhere has no description: %v", file)
	}
}

func TestWorkloadsBeforeBootstrapSayWhatToDo(t *testing.T) {
	n := startNode(t, nil)
	_, err := workloadpb.NewWorkloadServiceClient(n.admin(t)).Get(testContext(t),
		&workloadpb.GetRequest{Selection: &workloadpb.Selection{Resource: "pods"}})
	if status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "osctl bootstrap") {
		t.Errorf("got %v", err)
	}
}

func TestWorkloadsOnAWorkerSayWhomToAsk(t *testing.T) {
	n := startNode(t, func(o *options) { o.kubeconfig = "" })
	_, err := workloadpb.NewWorkloadServiceClient(n.admin(t)).Get(testContext(t),
		&workloadpb.GetRequest{Selection: &workloadpb.Selection{Resource: "pods"}})
	if status.Code(err) != codes.FailedPrecondition || !strings.Contains(err.Error(), "ask a control-plane node") {
		t.Errorf("got %v", err)
	}
}

func TestServeEndsThoughAStreamIsOpen(t *testing.T) {
	n := startNode(t, nil)
	n.machined.events = func(stream grpc.ServerStreamingServer[machinepb.Event]) error {
		if err := stream.Send(&machinepb.Event{}); err != nil {
			return err
		}
		<-stream.Context().Done()
		return stream.Context().Err()
	}
	events, err := machinepb.NewMachineServiceClient(n.admin(t)).Events(testContext(t), &machinepb.EventsRequest{Follow: true})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := events.Recv(); err != nil {
		t.Fatal(err)
	}
	n.server.grace = 10 * time.Millisecond
	stopped := make(chan struct{})
	go func() {
		n.server.stop()
		close(stopped)
	}()
	if _, err := events.Recv(); status.Code(err) != codes.Unavailable {
		t.Errorf("the stream ended with %v", err)
	}
	select {
	case <-stopped:
	case <-time.After(testDeadline):
		t.Fatal("the server does not stop")
	}
}

func TestMaintenance(t *testing.T) {
	n := startNode(t, func(o *options) {
		o.maintenance, o.ca = true, ""
		o.pairingCode = filepath.Join(filepath.Dir(o.cert), "code")
		writeFile(t, o.pairingCode, "4711-0815\n")
	})
	// The fingerprint stands for the CA; here it is enough that there is none.
	conn := dialTLS(t, n.address, &tls.Config{InsecureSkipVerify: true})
	version := func(code ...string) error {
		ctx := testContext(t)
		for _, c := range code {
			ctx = metadata.AppendToOutgoingContext(ctx, client.PairingCodeKey, c)
		}
		_, err := machinepb.NewMachineServiceClient(conn).Version(ctx, &machinepb.VersionRequest{})
		return err
	}
	if err := version(); status.Code(err) != codes.Unauthenticated || !strings.Contains(err.Error(), "console") {
		t.Errorf("without a code: %v", err)
	}
	if err := version("4711-0815", "4711-0816"); status.Code(err) != codes.Unauthenticated {
		t.Errorf("with two codes: %v", err)
	}
	if n.machined.calls.Load() != 0 {
		t.Error("a call without the code reached machined")
	}
	large := &workloadpb.GetRequest{Selection: &workloadpb.Selection{Resource: strings.Repeat("x", maxStrangersRequest)}}
	if _, err := workloadpb.NewWorkloadServiceClient(conn).Get(testContext(t), large); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("with a large request and no code: %v, want it unread", err)
	}
	if err := version("4711-0815"); err != nil {
		t.Errorf("with the code: %v", err)
	}
	paired := metadata.AppendToOutgoingContext(testContext(t), client.PairingCodeKey, "4711-0815")
	_, err := clusterpb.NewClusterServiceClient(conn).Bootstrap(paired, &clusterpb.BootstrapRequest{})
	if status.Code(err) != codes.FailedPrecondition {
		t.Errorf("bootstrap in maintenance: %v", err)
	}
	if _, err := healthpb.NewHealthClient(conn).Check(paired, &healthpb.HealthCheckRequest{}); status.Code(err) != codes.FailedPrecondition {
		t.Errorf("health in maintenance: %v", err)
	}
	for range pairingTries {
		if err := version("4711-0816"); status.Code(err) != codes.Unauthenticated {
			t.Errorf("with a wrong code: %v", err)
		}
	}
	if err := version("4711-0815"); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("with the code after too many wrong ones: %v", err)
	}
	n.log.await(t, "call refused", "wrong pairing code")
	if n.machined.calls.Load() != 1 {
		t.Errorf("%d calls reached machined, want the one with the code", n.machined.calls.Load())
	}
}

func TestGuessingIsPossibleAgainAfterAMinute(t *testing.T) {
	g, now := newGuessing("secret"), time.Now()
	for range pairingTries {
		_ = g.check("wrong", now)
	}
	if err := g.check("secret", now.Add(time.Second)); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("after a second: %v", err)
	}
	if err := g.check("secret", now.Add(time.Minute)); err != nil {
		t.Errorf("after a minute: %v", err)
	}
}

func TestFlags(t *testing.T) {
	for _, test := range []struct{ name, args, says string }{
		{"complete", "--ca=a --cert=b --key=c", ""},
		{"maintenance", "--maintenance --pairing-code-file=p --cert=b --key=c", ""},
		{"no CA", "--cert=b --key=c", "--ca is needed"},
		{"no key", "--ca=a --cert=b", "--key"},
		{"no code", "--maintenance --cert=b --key=c", "--pairing-code-file"},
		{"argument", "--ca=a --cert=b --key=c serve", `"serve"`},
		{"log format", "--ca=a --cert=b --key=c --log-format=xml", "xml"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := parseOptions(strings.Fields(test.args), &strings.Builder{})
			if test.says == "" && err != nil || test.says != "" && (err == nil || !strings.Contains(err.Error(), test.says)) {
				t.Errorf("got %v, want %q", err, test.says)
			}
		})
	}
}
