package main

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/keelson-os/keelson/pkg/api/machine"
)

const deadLine = "node worker-2: does not answer at 10.77.0.13:50000: dial tcp 10.77.0.13:50000: i/o timeout\n"

func TestADeadNodeCostsOneLine(t *testing.T) {
	harness, nodes := newNodesHarness(t)
	nodes.worker1.status.Problems = []string{"/var is almost full\nremove something", "the clock is wrong"}
	for file, args := range map[string]string{
		"services-all.txt":   "services -N all",
		"services-all.json":  "services -N all -o json",
		"services-all.yaml":  "services -N all -o yaml",
		"services-all.name":  "services -N cp-1,worker-1,worker-2,cp-1 -o name",
		"status-all.txt":     "status -N worker-1 -N worker-2 -N cp-1",
		"status-all.json":    "status -N all -o json",
		"version-all.txt":    "version -N all",
		"image-list-all.txt": "image list -N all",
	} {
		t.Run(args, func(t *testing.T) {
			if code := harness.run(t, strings.Fields(args)...); code != exitError || harness.err.String() != deadLine {
				t.Errorf("exit code %d: %s", code, harness.err)
			}
			compareGolden(t, file, harness.out.String())
		})
	}
	if code := harness.run(t, "services", "-N", "cp-1,worker-1"); code != exitOK || harness.err.Len() > 0 {
		t.Errorf("without the dead one: exit code %d: %s", code, harness.err)
	}
}

func TestOneNodeIsShownAsWithoutFanOut(t *testing.T) {
	harness, nodes := newNodesHarness(t)
	nodes.cp1.services, nodes.worker1.services = nil, testServices()
	for _, file := range []string{"services.txt", "services.json", "services.yaml", "services.name"} {
		format := strings.TrimPrefix(filepath.Ext(file), ".")
		if format == "txt" {
			format = asTable
		}
		harness.golden(t, file, "services", "-N", "worker-1", "-o", format)
	}
	harness.fails(t, exitError, []string{"error: node worker-2 does not answer at"}, "services", "-N", "worker-2")
	harness.fails(t, exitError, []string{`no node ["worker-3"]; its nodes are`}, "services", "-N", "worker-3")
}

// lines are sorted: nodes answer at the same time.
func lines(text string) []string {
	all := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	slices.Sort(all)
	return all
}

func TestStreamsOfSeveralNodesAreMerged(t *testing.T) {
	harness, nodes := newNodesHarness(t)
	nodes.cp1.events = []*machine.Event{{Sequence: 1, SinceBoot: durationpb.New(time.Second), Kind: "phase", Subject: "storage", Action: "started"}}
	nodes.worker1.events = []*machine.Event{{Sequence: 1, SinceBoot: durationpb.New(2 * time.Second), Kind: "phase", Subject: "etcd", Action: "started"}}
	for _, test := range []struct {
		args string
		want []string
	}{
		{"logs etcd -f -N all", []string{"cp-1:     line 0", "cp-1:     line 1", "worker-1: line 0", "worker-1: line 1"}},
		{"logs etcd -N cp-1,worker-2 -o json --tail 1", []string{
			`{"node":"cp-1","time":"2026-11-20T12:00:00.000Z","line":"line 0"}`, `{"node":"cp-1","time":"2026-11-20T12:00:01.000Z","line":"line 1"}`}},
		{"node-events -N all", []string{
			"cp-1:          1.000s phase    storage                  started", "worker-1:      2.000s phase    etcd                     started"}},
		{"node-events -N worker-2,worker-1 -o yaml", []string{
			"---", "action: started", "kind: phase", `message: ""`, "node: worker-1", `sequence: "1"`, "sinceBoot: 2s", "subject: etcd"}},
	} {
		t.Run(test.args, func(t *testing.T) {
			if code := harness.run(t, strings.Fields(test.args)...); code != exitError || harness.err.String() != deadLine {
				t.Errorf("exit code %d: %s", code, harness.err)
			}
			if got := lines(harness.out.String()); !slices.Equal(got, test.want) {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
	harness.colour = true
	harness.run(t, "logs", "etcd", "-N", "all")
	for _, want := range []string{"\x1b[36mcp-1:\x1b[0m     line 0\n", "\x1b[35mworker-1:\x1b[0m line 0\n"} {
		if !strings.Contains(harness.out.String(), want) {
			t.Errorf("no %q in %q", want, harness.out)
		}
	}
}

func TestAStreamGoesOnWhenAnotherDies(t *testing.T) {
	harness, nodes := newNodesHarness(t)
	died, end := make(chan struct{}), make(chan struct{})
	nodes.cp1.follow = func(send func(*machine.Event) error) error {
		if err := send(&machine.Event{Subject: "first"}); err != nil {
			return err
		}
		close(died)
		return status.Error(codes.Unavailable, "node cp-1 at 10.77.0.11:50000 stopped answering during the call (the other end is gone)")
	}
	nodes.worker1.follow = func(send func(*machine.Event) error) error {
		<-died
		if err := send(&machine.Event{Subject: "after"}); err != nil {
			return err
		}
		<-end
		return nil
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	time.AfterFunc(0, func() { <-died; close(end) })
	if code := harness.execute(ctx, []string{"node-events", "-f", "-N", "cp-1,worker-1"}); code != exitError {
		t.Errorf("exit code %d", code)
	}
	if got := harness.err.String(); got != "node cp-1: at 10.77.0.11:50000 stopped answering during the call (the other end is gone)\n" {
		t.Errorf("stderr: %q", got)
	}
	if out := harness.out.String(); !strings.Contains(out, "first") || !strings.Contains(out, "worker-1:") || !strings.Contains(out, "after") {
		t.Errorf("stdout: %q", out)
	}
}

func TestCtrlCEndsAllStreams(t *testing.T) {
	harness, nodes := newNodesHarness(t)
	ctx, cancel := context.WithCancel(t.Context())
	wait := func(func(*machine.Event) error) error {
		cancel()
		<-t.Context().Done()
		return nil
	}
	nodes.cp1.follow, nodes.worker1.follow = wait, wait
	if code := harness.execute(ctx, []string{"node-events", "-f", "-N", "cp-1,worker-1"}); code != exitInterrupted || harness.err.String() != "interrupted\n" {
		t.Errorf("exit code %d: %s", code, harness.err)
	}
}

func TestALostEndpointIsSaidOnce(t *testing.T) {
	harness, nodes := newNodesHarness(t)
	nodes.dead = status.Error(codes.Unavailable, `connection error: desc = "transport: Error while dialing: dial tcp 127.0.0.1:4000: connect: connection refused"`)
	harness.fails(t, exitError, []string{"error: the node's API at 127.0.0.1:4000 cannot be reached"}, "dmesg", "-f", "-N", "worker-2,cp-1")
	if strings.Count(harness.err.String(), "\n") != 1 {
		t.Errorf("more than one line: %s", harness.err)
	}
}

func TestSeveralNodesTakeTheirTurns(t *testing.T) {
	harness, nodes := newNodesHarness(t)
	var dialled []string
	for want, args := range map[string][]string{
		"service etcd restarted":     {"service", "etcd", "restart", "-N", "cp-1,worker-1"},
		"rebooting":                  {"reboot", "-N", "cp-1,worker-1"},
		"shutting down":              {"shutdown", "--force", "-N", "cp-1", "-N", "worker-1"},
		"web:1 removed":              {"image", "rm", "web:1", "-N", "cp-1,worker-1"},
		"web:1 imported (sha256:abc": {"image", "import", archive(t), "-N", "cp-1,worker-1"},
	} {
		nodes.dialled = nil
		code := harness.run(t, args...)
		got := lines(harness.out.String())
		if code != exitOK || len(got) != 2 || !strings.HasPrefix(got[0], "cp-1:     "+want) || !strings.HasPrefix(got[1], "worker-1: "+want) {
			t.Errorf("%v: exit code %d, %q, %s", args, code, got, harness.err)
		}
		dialled = append(dialled, nodes.dialled...)
	}
	if len(dialled) != 5 || slices.ContainsFunc(dialled, func(to string) bool { return to != "127.0.0.1:4000" }) {
		t.Errorf("dialled %q, want the endpoint once for each command", dialled)
	}
	nodes.dialled = nil
	harness.run(t, "services", "-N", "10.0.0.9:50000,cp-1")
	if !slices.Equal(nodes.dialled, []string{"10.0.0.9:50000", "127.0.0.1:4000"}) {
		t.Errorf("dialled %q", nodes.dialled)
	}
}

func archive(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "web.tar")
	if err := os.WriteFile(path, []byte("archive"), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestRebootInTurnStopsAtTheFirstThatDoesNotComeBack(t *testing.T) {
	harness, nodes := newNodesHarness(t)
	clock := testNow
	harness.now = func() time.Time { clock = clock.Add(time.Minute); return clock }
	nodes.cp1.uptimes, nodes.worker1.uptimes = []time.Duration{10 * time.Second}, []time.Duration{10 * time.Second}
	harness.fails(t, exitError, []string{"cp-1:     rebooting", "node worker-2: reboot: does not answer at 10.77.0.13:50000", "stopped there: not restarted yet: worker-1"}, "reboot", "--wait", "-N", "cp-1,worker-2,worker-1")
	if len(nodes.cp1.fakeMachine.did) != 1 || len(nodes.worker1.fakeMachine.did) != 0 {
		t.Errorf("cp-1 did %q, worker-1 %q", nodes.cp1.fakeMachine.did, nodes.worker1.fakeMachine.did)
	}
	if !strings.HasPrefix(harness.out.String(), "cp-1:     the node has started again") {
		t.Errorf("stdout: %s", harness.out)
	}
}

func TestAllNodesAreTurnedOffOnlyOnPurpose(t *testing.T) {
	harness, nodes := newNodesHarness(t)
	harness.live = true
	harness.stdin.Reset("n\n")
	harness.fails(t, exitError, []string{"Turn all 3 nodes (cp-1, worker-1, worker-2) off?", "nothing done"}, "shutdown", "-N", "all")
	if len(nodes.cp1.fakeMachine.did) > 0 {
		t.Error("cp-1 was turned off")
	}
	harness.run(t, "shutdown", "-N", "all", "--yes")
	if len(nodes.cp1.fakeMachine.did) != 1 || len(nodes.worker1.fakeMachine.did) != 1 {
		t.Errorf("cp-1 did %q, worker-1 %q: %s", nodes.cp1.fakeMachine.did, nodes.worker1.fakeMachine.did, harness.err)
	}
}

func TestNodesAreNamedRight(t *testing.T) {
	harness, nodes := newNodesHarness(t)
	for want, args := range map[string]string{
		"this command asks one node":   "get pods -N cp-1,worker-1",
		"-N all: this command":         "kubeconfig - -N all",
		"a node's name is missing":     "services -N cp-1,,worker-1",
		"others besides it":            "services -N all,cp-1",
		"names and selectors exclude ": "get pod web -l app=web -N all",
	} {
		harness.fails(t, exitUsage, []string{want}, strings.Fields(args)...)
	}
	if err := harness.addEndpoint("127.0.0.1:4002", "dev-2"); err != nil {
		t.Fatal(err)
	}
	for _, args := range []string{"reboot", "shutdown", "service etcd stop"} {
		harness.fails(t, exitUsage, []string{"which node?"}, strings.Fields(args)...)
	}
	if code := harness.run(t, "reboot", "-N", "dev-2"); code != exitOK || nodes.dialled[len(nodes.dialled)-1] != "127.0.0.1:4002" {
		t.Errorf("exit code %d, dialled %q: %s", code, nodes.dialled, harness.err)
	}
}

func (harness *harness) addEndpoint(endpoint, node string) error {
	config, err := harness.loadConfig()
	if err != nil {
		return err
	}
	dev := config.Contexts["dev"]
	dev.Endpoints, dev.Nodes = append(dev.Endpoints, endpoint), append(dev.Nodes, node)
	path, err := harness.configPath()
	if err != nil {
		return err
	}
	return config.Save(path)
}

func TestNodesAreCompleted(t *testing.T) {
	harness, _ := newNodesHarness(t)
	for typed, want := range map[string]string{
		"":               "all dev-1 cp-1 worker-1 worker-2",
		"cp-1,":          "cp-1,all cp-1,dev-1 cp-1,worker-1 cp-1,worker-2",
		"cp-1,worker-1,": "cp-1,worker-1,all cp-1,worker-1,dev-1 cp-1,worker-1,worker-2",
	} {
		harness.run(t, "__complete", "services", "--node", typed)
		offered, _, _ := strings.Cut(harness.out.String(), ":")
		if got := strings.Join(strings.Fields(offered), " "); got != want {
			t.Errorf("%q: offered %q, want %q", typed, got, want)
		}
	}
}
