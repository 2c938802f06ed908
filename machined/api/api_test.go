package api

import (
	"context"
	"errors"
	"io"
	"iter"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/keelson-os/keelson/machined/host"
	"github.com/keelson-os/keelson/machined/supervise"
	"github.com/keelson-os/keelson/pkg/api/cluster"
	"github.com/keelson-os/keelson/pkg/api/image"
	logpb "github.com/keelson-os/keelson/pkg/api/log"
	"github.com/keelson-os/keelson/pkg/api/machine"
	"github.com/keelson-os/keelson/pkg/api/service"
	"github.com/keelson-os/keelson/pkg/identity"
)

// fakeNode is a machine that does what a test says.
type fakeNode struct {
	status  *machine.StatusResponse
	stopErr error
	stops   []string
}

func (n *fakeNode) Version() *machine.VersionResponse { panic("the test's panic") }
func (n *fakeNode) Status() *machine.StatusResponse   { return n.status }
func (n *fakeNode) Stats() (*machine.StatsResponse, error) {
	return nil, errors.New("no /proc")
}
func (n *fakeNode) RequestStop(_ context.Context, stop Stop) error {
	if n.stopErr == nil {
		what := map[bool]string{true: "forced "}[stop.Force] + string(stop.Kind)
		if len(stop.Keep) > 0 {
			what += " but for " + strings.Join(stop.Keep, " and ")
		}
		if stop.Overwrite {
			what += ", overwriting,"
		}
		n.stops = append(n.stops, what+" by "+stop.By)
	}
	return n.stopErr
}

// serving is a server and a connection to it.
type serving struct {
	*grpc.ClientConn
	server     *Server
	node       *fakeNode
	events     *Events
	supervisor *supervise.Supervisor
}

func serve(t *testing.T) *serving {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	supervisor, err := supervise.New(supervise.Options{Log: log, KeepIdentity: true, Strict: true})
	must(t, err)
	must(t, supervisor.Add(
		supervise.Spec{Name: "apid", Path: "/nowhere/apid", Essential: true},
		supervise.Spec{Name: "etcd", Path: "/nowhere/etcd", DependsOn: []string{"apid"}},
	))
	s := &serving{
		node:       &fakeNode{status: &machine.StatusResponse{Phase: "storage"}},
		events:     NewEvents(func() time.Duration { return 2 * time.Second }),
		supervisor: supervisor,
	}
	s.server = New(Options{Log: log, Node: s.node, Supervisor: supervisor, Events: s.events, Kernel: kernelOf("one", "two", "three")})
	socket := filepath.Join(t.TempDir(), "machined", "machined.sock")
	listener, err := Listen(socket, -1)
	must(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.server.Serve(ctx, listener) }()
	s.ClientConn, err = grpc.NewClient("unix:"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	must(t, err)
	t.Cleanup(func() {
		s.Close()
		cancel()
		must(t, <-ended)
	})
	return s
}

func kernelOf(texts ...string) KernelLog {
	return func(ctx context.Context, follow bool) iter.Seq2[host.KernelMessage, error] {
		return func(yield func(host.KernelMessage, error) bool) {
			for i, text := range texts {
				if !yield(host.KernelMessage{Sequence: uint64(i), Priority: 6, Text: text}, nil) {
					return
				}
			}
			if follow {
				<-ctx.Done()
				yield(host.KernelMessage{}, ctx.Err())
			}
		}
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// refused checks an error's code and a part of its message.
func refused(t *testing.T, err error, code codes.Code, part string) {
	t.Helper()
	if status.Code(err) != code || !strings.Contains(err.Error(), part) {
		t.Errorf("got %v, want %s with %q", err, code, part)
	}
}

func deadline(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func as(ctx context.Context, user string, roles ...string) context.Context {
	ctx = metadata.AppendToOutgoingContext(ctx, identity.MetadataUser, user)
	for _, role := range roles {
		ctx = metadata.AppendToOutgoingContext(ctx, identity.MetadataRole, role)
	}
	return ctx
}

func TestPanicOfAHandlerEndsItsCallOnly(t *testing.T) {
	s := serve(t)
	_, err := machine.NewMachineServiceClient(s).Version(deadline(t), &machine.VersionRequest{})
	refused(t, err, codes.Internal, "Version: a bug in Keelson")
	answer, err := healthpb.NewHealthClient(s).Check(deadline(t), &healthpb.HealthCheckRequest{})
	if err != nil || answer.GetStatus() != healthpb.HealthCheckResponse_SERVING {
		t.Errorf("health after the panic: %v, %v", answer, err)
	}
}

func TestRebootIsRecordedWithItsCaller(t *testing.T) {
	s := serve(t)
	client := machine.NewMachineServiceClient(s)
	_, err := client.Reboot(as(deadline(t), "eve", "os:admin", "os:reader"), &machine.RebootRequest{})
	must(t, err)
	_, err = client.Shutdown(deadline(t), &machine.ShutdownRequest{})
	must(t, err)
	_, err = client.Reset(deadline(t), &machine.ResetRequest{Force: true})
	must(t, err)
	_, err = client.Reset(deadline(t), &machine.ResetRequest{SystemLabels: []string{"STATE"}, Overwrite: true})
	must(t, err)
	_, err = client.Reset(deadline(t), &machine.ResetRequest{SystemLabels: []string{"STATE", "META"}})
	refused(t, err, codes.InvalidArgument, `a reset wipes STATE and EPHEMERAL, not "META"`)
	want := []string{
		"reboot by eve (os:admin, os:reader)", "shutdown by a process on the node", "forced reset by a process on the node",
		"reset but for EPHEMERAL, overwriting, by a process on the node",
	}
	if diff := cmp.Diff(want, s.node.stops); diff != "" {
		t.Error(diff)
	}
	stream, err := client.Events(deadline(t), &machine.EventsRequest{Tail: 5})
	must(t, err)
	event, err := stream.Recv()
	must(t, err)
	if event.GetSubject() != "Reboot" || event.GetMessage() != "by eve (os:admin, os:reader)" {
		t.Errorf("event %v", event)
	}
	s.node.stopErr = errors.New("the node is on its way down already")
	_, err = client.Reboot(deadline(t), &machine.RebootRequest{})
	refused(t, err, codes.FailedPrecondition, "on its way down")
}

func TestEventsFollow(t *testing.T) {
	s := serve(t)
	s.events.Publish(KindPhase, "host", "started", "")
	s.events.Reached("init", "")
	stream, err := machine.NewMachineServiceClient(s).Events(deadline(t), &machine.EventsRequest{Follow: true})
	must(t, err)
	for sequence, want := range []string{"host", "init", "api"} {
		event, err := stream.Recv()
		must(t, err)
		if event.GetSequence() != uint64(sequence+1) || event.GetSubject() != want || event.GetSinceBoot().AsDuration() != 2*time.Second {
			t.Errorf("event %v, want number %d about %s", event, sequence+1, want)
		}
		if want == "init" {
			s.events.Reached("api", "")
		}
	}
	s.events.Close()
	if _, err := stream.Recv(); !errors.Is(err, io.EOF) {
		t.Errorf("after the last event: %v", err)
	}
}

func TestBytesThatAreNoTextSpoilNoAnswer(t *testing.T) {
	s := serve(t)
	s.events.Publish(KindConfig, "config", "refused", "x"+strings.Repeat("ä", maxEventMessage)+"\xff") // cut inside a letter
	s.node.status = &machine.StatusResponse{Problems: []string{"mke2fs said \xff"}}
	client := machine.NewMachineServiceClient(s)
	stream, err := client.Events(deadline(t), &machine.EventsRequest{})
	must(t, err)
	if _, err := stream.Recv(); err != nil {
		t.Errorf("event: %v", err)
	}
	answer, err := client.Status(deadline(t), &machine.StatusRequest{})
	if err != nil || answer.GetProblems()[0] != "mke2fs said \uFFFD" {
		t.Errorf("status %v, %v", answer, err)
	}
}

func TestEventsAreBounded(t *testing.T) {
	events := NewEvents(func() time.Duration { return 0 })
	for range 3 * maxEvents {
		events.Publish(KindConfig, "x", "y", strings.Repeat("z", 3*maxEventMessage))
	}
	size, count := 0, 0
	must(t, events.Read(t.Context(), 0, false, func(event *machine.Event) error {
		size += len(event.GetMessage())
		count++
		return nil
	}))
	if size > maxEventBytes || count == 0 {
		t.Errorf("%d events of %d bytes are kept", count, size)
	}
}

func TestServices(t *testing.T) {
	s := serve(t)
	client := service.NewServiceServiceClient(s)
	list, err := client.List(deadline(t), &service.ListRequest{})
	must(t, err)
	var got []string
	for _, one := range list.GetServices() {
		got = append(got, one.GetName()+" "+one.GetState()+" "+strings.Join(one.GetDependsOn(), ","))
	}
	if diff := cmp.Diff([]string{"apid stopped ", "etcd stopped apid"}, got); diff != "" {
		t.Error(diff)
	}
	_, err = client.Start(deadline(t), &service.StartRequest{Name: "ectd"})
	refused(t, err, codes.NotFound, "the services are: apid, etcd")
	_, err = client.Stop(deadline(t), &service.StopRequest{Name: "apid"})
	refused(t, err, codes.FailedPrecondition, "restart it instead")
	logs, err := client.Logs(deadline(t), &service.LogsRequest{Name: "ectd"})
	must(t, err)
	_, err = logs.Recv()
	refused(t, err, codes.NotFound, `no service "ectd"`)

	log, err := s.supervisor.Log("etcd")
	must(t, err)
	_, _ = log.Write([]byte("one\ntwo\n"))
	logs, err = client.Logs(deadline(t), &service.LogsRequest{Name: "etcd", Tail: new(uint32(1)), Follow: true})
	must(t, err)
	line, err := logs.Recv()
	if err != nil || string(line.GetLine()) != "two" {
		t.Errorf("log line %q, %v", line.GetLine(), err)
	}
}

func TestKernelLogTail(t *testing.T) {
	s := serve(t)
	for tail, want := range map[uint32][]string{0: {"one", "two", "three"}, 2: {"two", "three"}, 9: {"one", "two", "three"}} {
		for _, follow := range []bool{false, true} {
			ctx, cancel := context.WithCancel(deadline(t))
			stream, err := logpb.NewLogServiceClient(s).Kernel(ctx, &logpb.KernelRequest{Tail: tail, Follow: follow})
			must(t, err)
			var got []string
			for range want {
				message, err := stream.Recv()
				must(t, err)
				got = append(got, message.GetMessage())
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("tail %d: %s", tail, diff)
			}
			if !follow {
				if _, err := stream.Recv(); !errors.Is(err, io.EOF) {
					t.Errorf("after the last message: %v", err)
				}
			}
			cancel()
		}
	}
}

type fakeCluster struct{ err error }

func (c fakeCluster) Bootstrap(context.Context) error { return c.err }
func (c fakeCluster) Health(context.Context) []Check {
	return []Check{{Name: "etcd", OK: true}, {Name: "node Ready", Message: "not registered"}}
}
func (c fakeCluster) Kubeconfig(_ context.Context, user string, roles []string, until time.Time) ([]byte, error) {
	return []byte(user + " " + strings.Join(roles, " ") + " " + until.Format(time.DateOnly)), c.err
}
func (c fakeCluster) Nodes() []*cluster.Node {
	return []*cluster.Node{{Name: "dev-1", Addresses: []string{"10.0.0.1"}, Message: "kubelet said \xff"}}
}

func TestClusterAndImagesComeLate(t *testing.T) {
	s := serve(t)
	client := cluster.NewClusterServiceClient(s)
	_, err := client.Bootstrap(deadline(t), &cluster.BootstrapRequest{})
	refused(t, err, codes.Unavailable, `boot phase "storage"`)
	s.node.status = &machine.StatusResponse{Problems: []string{"the disk /dev/vda holds foreign data"}}
	_, err = image.NewImageServiceClient(s).List(deadline(t), &image.ListRequest{})
	refused(t, err, codes.Unavailable, "foreign data")

	s.server.SetCluster(fakeCluster{})
	health, err := client.Health(deadline(t), &cluster.HealthRequest{})
	if err != nil || health.GetHealthy() || len(health.GetChecks()) != 2 {
		t.Errorf("health %v, %v", health, err)
	}
	eve := metadata.AppendToOutgoingContext(as(deadline(t), "eve", "os:reader"), identity.MetadataUntil, "2030-02-01T00:00:00Z")
	kubeconfig, err := client.Kubeconfig(eve, &cluster.KubeconfigRequest{})
	if err != nil || string(kubeconfig.GetKubeconfig()) != "eve os:reader 2030-02-01" {
		t.Errorf("kubeconfig %q, %v", kubeconfig.GetKubeconfig(), err)
	}
	nodes, err := client.Nodes(deadline(t), &cluster.NodesRequest{})
	if err != nil || len(nodes.GetNodes()) != 1 || nodes.GetNodes()[0].GetMessage() != "kubelet said \uFFFD" {
		t.Errorf("nodes %v, %v", nodes, err)
	}
	s.server.SetCluster(fakeCluster{err: errors.New("bootstrapped before")})
	_, err = client.Bootstrap(deadline(t), &cluster.BootstrapRequest{})
	refused(t, err, codes.FailedPrecondition, "bootstrapped before")
}

func TestListenClosesTheSocketToOthers(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "machined", "machined.sock")
	must(t, os.MkdirAll(filepath.Dir(socket), 0o777))
	must(t, os.WriteFile(socket, nil, 0o666)) // an earlier run's
	listener, err := Listen(socket, -1)
	must(t, err)
	defer listener.Close()
	for path, want := range map[string]os.FileMode{
		filepath.Dir(socket): os.ModeDir | 0o750,
		socket:               os.ModeSocket | 0o660,
	} {
		info, err := os.Stat(path)
		must(t, err)
		if info.Mode() != want {
			t.Errorf("%s has mode %s, want %s", path, info.Mode(), want)
		}
	}
	var dialer net.Dialer
	conn, err := dialer.DialContext(deadline(t), "unix", socket)
	must(t, err)
	conn.Close()
}

func TestMaintenance(t *testing.T) {
	one, err := NewMaintenance()
	must(t, err)
	two, err := NewMaintenance()
	must(t, err)
	if one.PairingCode == two.PairingCode || one.Fingerprint == two.Fingerprint {
		t.Error("two boots share a secret")
	}
	if len(one.PairingCode) != 9 || one.PairingCode[4] != '-' || len(one.Fingerprint) != 64 {
		t.Errorf("pairing code %q, fingerprint %q", one.PairingCode, one.Fingerprint)
	}
	spec := MaintenanceSpec(supervise.User{}, one)
	if args := strings.Join(spec.Args, " "); !strings.Contains(args, "--maintenance") || strings.Contains(args, one.PairingCode) {
		t.Errorf("arguments %q", args)
	}
}
