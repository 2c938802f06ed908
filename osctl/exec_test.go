package main

import (
	"io"
	"os"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/keelson-os/keelson/pkg/api/workload"
)

// echo answers each part of standard input with the same part, and in the end
// exits with a code.
func echo(code int32, started *workload.ExecStart) func(workload.WorkloadService_ExecServer) error {
	return func(stream workload.WorkloadService_ExecServer) error {
		for {
			request, err := stream.Recv()
			if err != nil && err != io.EOF {
				return err
			}
			switch message := request.GetMessage().(type) {
			case *workload.ExecRequest_Start:
				proto.Merge(started, message.Start)
				if message.Start.GetStdin() {
					continue
				}
			case *workload.ExecRequest_Stdin:
				if err := stream.Send(&workload.ExecResponse{Message: &workload.ExecResponse_Stdout{Stdout: message.Stdin}}); err != nil {
					return err
				}
				continue
			}
			if err := stream.Send(&workload.ExecResponse{Message: &workload.ExecResponse_Stderr{Stderr: []byte("bye\n")}}); err != nil {
				return err
			}
			return stream.Send(&workload.ExecResponse{Message: &workload.ExecResponse_Exit{Exit: &workload.ExecExit{Code: code}}})
		}
	}
}

func TestExecPassesStreamsAndExitCodeOn(t *testing.T) {
	harness, node := newWorkloadHarness(t)
	started := &workload.ExecStart{}
	node.exec = echo(7, started)
	input := strings.Repeat("through standard input\n", 10000)
	harness.stdin.Reset(input)
	if code := harness.run(t, "exec", "-i", "pod/web", "-n", "shop", "-c", "app", "--", "/bin/cat", "-"); code != 7 {
		t.Errorf("exit code %d: %s", code, harness.err)
	}
	if harness.out.String() != input || harness.err.String() != "bye\n" {
		t.Errorf("%d bytes of %d came back; stderr %q", harness.out.Len(), len(input), harness.err)
	}
	want := &workload.ExecStart{Pod: "web", Namespace: "shop", Container: "app", Command: []string{"/bin/cat", "-"}, Stdin: true}
	if !proto.Equal(started, want) {
		t.Errorf("started %v, want %v", started, want)
	}
}

func TestExecWithoutInputOrTerminal(t *testing.T) {
	harness, node := newWorkloadHarness(t)
	started := &workload.ExecStart{}
	node.exec = echo(0, started)
	harness.fails(t, exitOK, []string{"not a terminal here"}, "exec", "-it", "web", "--", "/bin/date")
	if started.GetTty() {
		t.Errorf("started %v", started)
	}
	// A terminal whose keys are not sent stays as it is, so that Ctrl-C works.
	terminal, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Skipf("no terminal: %v", err)
	}
	defer terminal.Close()
	harness.app.terminal, harness.app.stdin = true, terminal
	started.Reset()
	harness.fails(t, exitOK, []string{"without -i"}, "exec", "-t", "web", "--", "/bin/date")
	if started.GetTty() || started.GetStdin() {
		t.Errorf("started %v", started)
	}
}

func TestExecErrors(t *testing.T) {
	harness, node := newWorkloadHarness(t)
	node.exec = func(workload.WorkloadService_ExecServer) error {
		return status.Error(codes.NotFound, `no pod "web"; there are: web-0, web-1`)
	}
	harness.fails(t, exitError, []string{"there are: web-0, web-1"}, "exec", "pod/web", "--", "/x")
	node.exec = func(workload.WorkloadService_ExecServer) error { return nil }
	harness.fails(t, exitError, []string{"ended before the program did"}, "exec", "pod/web", "--", "/x")
	harness.fails(t, exitUsage, nil, "exec", "deployment/", "--", "/x")
	harness.fails(t, exitUsage, nil, "exec", "--", "/x")
	harness.fails(t, exitUsage, nil, "exec", "pod/web", "/x")
}
