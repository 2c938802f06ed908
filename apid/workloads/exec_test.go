package workloads

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"k8s.io/apiserver/pkg/util/proxy"
	"k8s.io/cri-streaming/pkg/streaming/remotecommand"
	utilexec "k8s.io/utils/exec"

	workloadpb "github.com/keelson-os/keelson/pkg/api/workload"
)

// fakeRuntime runs programs the way a kubelet's container runtime would.
type fakeRuntime struct{}

func (fakeRuntime) ExecInContainer(_ context.Context, _, _, container string, command []string,
	in io.Reader, out, errOut io.WriteCloser, tty bool, resize <-chan remotecommand.TerminalSize, _ time.Duration) error {
	switch command[0] {
	case "cat":
		_, err := io.Copy(out, in)
		return err
	case "complain":
		fmt.Fprintf(out, "in %s\n", container)
		fmt.Fprintln(errOut, "oh no")
		return utilexec.CodeExitError{Err: errors.New("exit 3"), Code: 3}
	case "size":
		size := <-resize
		fmt.Fprintf(out, "%dx%d", size.Width, size.Height)
		return nil
	}
	return fmt.Errorf(`failed to exec in container: OCI runtime exec failed: exec failed: unable to start container process: exec: %q: executable file not found in $PATH`, command[0])
}

// kubelet serves exec by SPDY, which is what a kubelet speaks.
func kubelet(t *testing.T) *httptest.Server {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		remotecommand.ServeExec(w, r, fakeRuntime{}, "web", "", q.Get("container"), q["command"], &remotecommand.Options{
			Stdin: q.Get("stdin") == "true", Stdout: true, Stderr: q.Get("stderr") == "true", TTY: q.Get("tty") == "true",
		}, testDeadline, testDeadline, []string{"v4.channel.k8s.io"})
	}))
	t.Cleanup(server.Close)
	return server
}

// throughWebSocket is what the API server does with a client's WebSocket.
func throughWebSocket(t *testing.T) http.Handler {
	target := kubelet(t)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		location, err := url.Parse(target.URL + "?" + r.URL.RawQuery)
		if err != nil {
			t.Error(err)
			return
		}
		q := r.URL.Query()
		proxy.NewStreamTranslatorHandler(location, http.DefaultTransport, 0, proxy.Options{
			Stdin: q.Get("stdin") == "true", Stdout: true, Stderr: q.Get("stderr") == "true", Tty: q.Get("tty") == "true",
		}).ServeHTTP(w, r)
	})
}

// withContainers is a cluster whose pod web runs container a and b, with a
// finished init container.
func withContainers() *fakeAPI {
	f := withPods()
	web := f.objects["/api/v1/namespaces/default/pods/web"]
	web["spec"] = map[string]any{
		"containers":     []any{map[string]any{"name": "a"}, map[string]any{"name": "b"}},
		"initContainers": []any{map[string]any{"name": "init"}},
	}
	running := map[string]any{"running": map[string]any{}}
	web["status"] = map[string]any{
		"phase":                 "Running",
		"containerStatuses":     []any{map[string]any{"name": "a", "state": running}, map[string]any{"name": "b", "state": running}},
		"initContainerStatuses": []any{map[string]any{"name": "init", "state": map[string]any{"terminated": map[string]any{"reason": "Completed"}}}},
	}
	return f
}

// run executes a program, with messages sent after start.
func run(t *testing.T, f *fakeAPI, start *workloadpb.ExecStart, messages ...*workloadpb.ExecRequest) (out, errOut string, code int32, err error) {
	t.Helper()
	stream, err := f.serve(t).Exec(testContext(t))
	if err != nil {
		t.Fatal(err)
	}
	first := &workloadpb.ExecRequest{Message: &workloadpb.ExecRequest_Start{Start: start}}
	for _, message := range append([]*workloadpb.ExecRequest{first}, messages...) {
		if err := stream.Send(message); err != nil && !errors.Is(err, io.EOF) {
			t.Fatal(err)
		}
	}
	code = -1
	for {
		response, err := stream.Recv()
		if err != nil {
			if errors.Is(err, io.EOF) {
				err = nil
			}
			return out, errOut, code, err
		}
		out, errOut = out+string(response.GetStdout()), errOut+string(response.GetStderr())
		if exit := response.GetExit(); exit != nil {
			code = exit.GetCode()
		}
	}
}

func TestExec(t *testing.T) {
	long := strings.Repeat("0123456789", 20_000)
	for _, server := range []struct {
		name  string
		serve func(*testing.T) http.Handler
	}{
		{"WebSocket", throughWebSocket},
		{"SPDY", func(t *testing.T) http.Handler { return kubelet(t).Config.Handler }},
	} {
		t.Run(server.name, func(t *testing.T) {
			f := withContainers()
			f.exec = server.serve(t)

			out, errOut, code, err := run(t, f, &workloadpb.ExecStart{Pod: "web", Command: []string{"complain"}})
			if err != nil || code != 3 || out != "in a\n" || errOut != "oh no\n" {
				t.Errorf("complain: %q, %q, %d, %v", out, errOut, code, err)
			}
			out, _, code, err = run(t, f, &workloadpb.ExecStart{Pod: "web", Container: "b", Command: []string{"cat"}, Stdin: true},
				&workloadpb.ExecRequest{Message: &workloadpb.ExecRequest_Stdin{Stdin: []byte(long)}},
				&workloadpb.ExecRequest{Message: &workloadpb.ExecRequest_StdinEnd{StdinEnd: true}})
			if err != nil || code != 0 || out != long {
				t.Errorf("cat: %d bytes of %d, %d, %v", len(out), len(long), code, err)
			}
			out, _, code, err = run(t, f, &workloadpb.ExecStart{Pod: "web", Command: []string{"size"}, Stdin: true, Tty: true},
				&workloadpb.ExecRequest{Message: &workloadpb.ExecRequest_Resize{Resize: &workloadpb.WindowSize{Columns: 80, Rows: 24}}})
			if err != nil || code != 0 || out != "80x24" {
				t.Errorf("size: %q, %d, %v", out, code, err)
			}
			_, errOut, code, err = run(t, f, &workloadpb.ExecStart{Pod: "web", Command: []string{"nope"}})
			if err != nil || code != exitNotFound || !strings.Contains(errOut, `exec: "nope": executable file not found`) {
				t.Errorf("nope: %q, %d, %v", errOut, code, err)
			}
		})
	}
}

func TestExecAndLogsOfWhatIsNotThere(t *testing.T) {
	for _, test := range []struct {
		name, pod, container string
		want                 codes.Code
		says                 string
	}{
		{"no such pod", "wbe", "", codes.NotFound, `no pod "wbe" in namespace default; pods there: db, web`},
		{"no such container", "web", "c", codes.NotFound, `no container "c"; its containers: a, b; init and ephemeral: init`},
		{"no name", "", "", codes.InvalidArgument, "no name of a pod"},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := withContainers()
			_, _, _, err := run(t, f, &workloadpb.ExecStart{Pod: test.pod, Container: test.container, Command: []string{"ls"}})
			if status.Code(err) != test.want || !strings.Contains(err.Error(), test.says) {
				t.Errorf("exec: got %v, want %q", err, test.says)
			}
			logs, err := f.serve(t).Logs(testContext(t), &workloadpb.LogsRequest{Pod: test.pod, Container: test.container})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := logs.Recv(); status.Code(err) != test.want || !strings.Contains(err.Error(), test.says) {
				t.Errorf("logs: got %v, want %q", err, test.says)
			}
		})
	}
}

func TestExecRefusesWhatCannotRun(t *testing.T) {
	f := withContainers()
	f.exec = throughWebSocket(t)
	_, _, _, err := run(t, f, &workloadpb.ExecStart{Pod: "web", Container: "init", Command: []string{"ls"}})
	if status.Code(err) != codes.FailedPrecondition || !strings.Contains(err.Error(), "it has ended: Completed") {
		t.Errorf("in a container that has ended: %v", err)
	}
	_, _, _, err = run(t, f, &workloadpb.ExecStart{Pod: "web"})
	if status.Code(err) != codes.InvalidArgument {
		t.Errorf("without a command: %v", err)
	}
	stdin := &workloadpb.ExecRequest{Message: &workloadpb.ExecRequest_Stdin{Stdin: []byte("x")}}
	_, _, _, err = run(t, f, &workloadpb.ExecStart{Pod: "web", Command: []string{"size"}, Tty: true}, stdin)
	if status.Code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), "did not ask for it") {
		t.Errorf("stdin that was not asked for: %v", err)
	}
}

func TestDefaultContainer(t *testing.T) {
	f := withContainers()
	f.objects["/api/v1/namespaces/default/pods/web"]["metadata"].(map[string]any)["annotations"] = map[string]any{defaultContainer: "b"}
	f.exec = throughWebSocket(t)
	out, _, _, err := run(t, f, &workloadpb.ExecStart{Pod: "web", Command: []string{"complain"}})
	if err != nil || out != "in b\n" {
		t.Errorf("got %q, %v", out, err)
	}
}

func TestExitOf(t *testing.T) {
	const prefix = "OCI runtime exec failed: exec failed: unable to start container process: "
	for _, test := range []struct {
		reason string
		code   int32
	}{
		{`exec: "nope": executable file not found in $PATH`, exitNotFound},
		{`exec: "/nope": stat /nope: no such file or directory`, exitNotFound},
		{`exec: "/etc/passwd": permission denied`, exitNotExecutable},
	} {
		code, message, err := exitOf(errors.New(prefix + test.reason))
		if code != test.code || message != "error: "+test.reason || err != nil {
			t.Errorf("%s: got %d, %q, %v", test.reason, code, message, err)
		}
	}
	if _, _, err := exitOf(errors.New("connection lost")); err == nil {
		t.Error("a lost connection is taken for the program's end")
	}
}
