package main

import (
	"bytes"
	"context"
	"flag"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	"github.com/keelson-os/keelson/pkg/api/machine"
	"github.com/keelson-os/keelson/pkg/api/service"
	"github.com/keelson-os/keelson/pkg/client"
	"github.com/keelson-os/keelson/pkg/machineconfig"
)

var update = flag.Bool("update", false, "write the golden files anew")

var testNow = time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)

var testSecrets = sync.OnceValue(func() *machineconfig.Secrets {
	secrets, err := machineconfig.NewSecrets("dev", testNow)
	if err != nil {
		panic(err)
	}
	return secrets
})

// harness calls osctl against a node that the test makes up.
type harness struct {
	*app
	stdin    *strings.Reader
	out, err *bytes.Buffer
}

// newHarness has one context "dev", whose node answers what register adds.
func newHarness(t *testing.T, register func(*grpc.Server)) *harness {
	t.Helper()
	server := grpc.NewServer()
	if register != nil {
		register(server)
	}
	listener := bufconn.Listen(1 << 20)
	done := make(chan struct{})
	go func() { defer close(done); _ = server.Serve(listener) }()
	t.Cleanup(func() { server.Stop(); <-done })

	path := filepath.Join(t.TempDir(), "config.yaml")
	dev, err := adminContext(testSecrets(), testNow, []string{"127.0.0.1:4000"}, []string{"dev-1"})
	if err != nil {
		t.Fatal(err)
	}
	dev.Kubernetes = "https://127.0.0.1:4001"
	config := &client.Config{Current: "dev", Contexts: map[string]*client.Context{"dev": dev}}
	if err := config.Save(path); err != nil {
		t.Fatal(err)
	}
	harness := &harness{out: &bytes.Buffer{}, err: &bytes.Buffer{}, stdin: strings.NewReader("")}
	harness.app = &app{
		stdin: harness.stdin, stdout: harness.out, stderr: harness.err,
		now: func() time.Time { return testNow },

		openMachines: openMachines,
		pollInterval: time.Millisecond,
		configPath:   func() (string, error) { return path, nil },
		dial: func(ctx context.Context, options client.Options) (*client.Client, error) {
			conn, err := grpc.NewClient("passthrough:///bufconn", grpc.WithTransportCredentials(insecure.NewCredentials()),
				grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }))
			if err != nil {
				return nil, err
			}
			t.Cleanup(func() { conn.Close() })
			return client.New(conn), nil
		},
	}
	return harness
}

// run calls osctl and returns its exit code. What it prints is in out and err.
func (harness *harness) run(t *testing.T, args ...string) int {
	t.Helper()
	harness.out.Reset()
	harness.err.Reset()
	harness.started = false
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	return harness.execute(ctx, args)
}

// golden runs osctl, which must succeed, and holds its output against a file.
func (harness *harness) golden(t *testing.T, file string, args ...string) {
	t.Helper()
	if code := harness.run(t, args...); code != exitOK {
		t.Fatalf("osctl %s: exit code %d: %s", strings.Join(args, " "), code, harness.err)
	}
	compareGolden(t, file, harness.out.String())
}

func compareGolden(t *testing.T, file, got string) {
	t.Helper()
	path := filepath.Join("testdata", file)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("differs from %s (-update writes it anew): -want +got\n%s", path, diff)
	}
}

// fails runs osctl, which must exit with the code and say each of want.
func (harness *harness) fails(t *testing.T, code int, want []string, args ...string) {
	t.Helper()
	if got := harness.run(t, args...); got != code {
		t.Errorf("osctl %s: exit code %d, want %d: %s", strings.Join(args, " "), got, code, harness.err)
	}
	for _, text := range want {
		if !strings.Contains(harness.err.String(), text) {
			t.Errorf("osctl %s: nothing of %q in: %s", strings.Join(args, " "), text, harness.err)
		}
	}
}

func TestUsageErrorsExitWithTwo(t *testing.T) {
	harness := newHarness(t, nil)
	for want, args := range map[string]string{
		`unknown command "bogus"`:        "bogus",
		`for "osctl config"`:             "config bogus",
		"unknown flag":                   "services --bogus",
		"one of table, json, yaml, name": "services -o xml",
		"accepts 2 arg":                  "service etcd",
		"usage: osctl cluster create":    "cluster create",
		`cluster name "Bad_Name"`:        "cluster create Bad_Name",
		"of memory: must be at least":    "cluster create dev --memory 1",
		"unknown action":                 "service etcd kick",
		"-- and a program":               "exec pod/web",
		"name a resource":                "get",
		"expected -n instead of -A":      "get pod web -A",
		"missing [fingerprint":           "status --endpoint 10.0.0.5",
		"-f or -k is required":           "apply",
		"name the pods to delete":        "delete pods",
	} {
		t.Run(args, func(t *testing.T) { harness.fails(t, exitUsage, []string{want, "--help"}, strings.Fields(args)...) })
	}
}

func TestTheRootListsEveryCommandInAGroup(t *testing.T) {
	app := newApp()
	root := app.root()
	for _, command := range root.Commands() {
		if command.GroupID == "" && !command.Hidden {
			t.Errorf("%s is in no group", command.Name())
		}
		if command.Short == "" {
			t.Errorf("%s has no description", command.Name())
		}
	}
}

// refusing answers every call with one error.
type refusing struct {
	machine.UnimplementedMachineServiceServer
	err error
}

func (node refusing) Reboot(context.Context, *machine.RebootRequest) (*machine.RebootResponse, error) {
	return nil, node.err
}

func TestCallErrorsAreSentences(t *testing.T) {
	for _, test := range []struct {
		err  error
		want []string
	}{
		{status.Error(codes.PermissionDenied, "Reboot needs the role os:admin or os:operator"),
			[]string{"error: reboot: Reboot needs the role os:admin or os:operator (your certificate's roles: os:admin)"}},
		{status.Error(codes.Unavailable, "the Kubernetes API is not up yet: see osctl health"),
			[]string{"error: reboot: the Kubernetes API is not up yet: see osctl health\n"}},
		{status.Error(codes.Unavailable, `connection error: desc = "transport: Error while dialing: dial tcp 127.0.0.1:4000: connect: connection refused"`),
			[]string{"the node's API at 127.0.0.1:4000 cannot be reached", "connection refused", "osctl cluster status"}},
		{status.Error(codes.Unavailable, `connection error: desc = "transport: authentication handshake failed: tls: failed to verify certificate: x509: certificate signed by unknown authority"`),
			[]string{"belongs to another cluster"}},
		{status.Error(codes.Unavailable, `connection error: desc = "error reading server preface: remote error: tls: expired certificate"`),
			[]string{"has expired"}},
		{status.Error(codes.Unavailable, `connection error: desc = "transport: Error while dialing: dial tcp: lookup dve-1: no such host"`),
			[]string{"name a node of the context"}},
		{status.Error(codes.Unavailable, `connection error: desc = "keepalive ping failed to receive ACK within timeout"`),
			[]string{"the connection broke"}},
		{status.Error(codes.Unavailable, "error reading from server: EOF"), []string{"the connection broke"}},
		{status.Error(codes.DeadlineExceeded, "context deadline exceeded"), []string{"127.0.0.1:4000 did not answer in time"}},
		{status.Error(codes.Unimplemented, "unknown method"), []string{"another version than osctl"}},
		{status.Error(codes.Unauthenticated, "wrong pairing code"), []string{"does not accept who you are: wrong pairing code"}},
	} {
		harness := newHarness(t, func(server *grpc.Server) {
			machine.RegisterMachineServiceServer(server, refusing{err: test.err})
		})
		harness.fails(t, exitError, test.want, "reboot")
		if strings.Contains(harness.err.String(), "rpc error") {
			t.Errorf("shows gRPC's own words: %s", harness.err)
		}
	}
}

func TestInterruptedExitsWith130(t *testing.T) {
	harness := newHarness(t, nil)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if code := harness.execute(ctx, []string{"reboot"}); code != exitInterrupted {
		t.Errorf("exit code %d", code)
	}
}

func TestCompletionOffersContextsAndServices(t *testing.T) {
	harness := newHarness(t, func(server *grpc.Server) {
		service.RegisterServiceServiceServer(server, &fakeServices{services: testServices()})
	})
	for want, args := range map[string][]string{
		"dev\n":     {"__complete", "config", "use", ""},
		"dev-1\n":   {"__complete", "services", "--node", ""},
		"kubelet\n": {"__complete", "logs", ""},
		"restart\n": {"__complete", "service", "etcd", ""},
		"yaml\n":    {"__complete", "services", "-o", ""},
		"pods\n":    {"__complete", "get", ""},
	} {
		if code := harness.run(t, args...); code != exitOK || !strings.Contains(harness.out.String(), want) {
			t.Errorf("%v: exit code %d, %s", args, code, harness.out)
		}
	}
}
