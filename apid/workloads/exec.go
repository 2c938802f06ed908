package workloads

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"

	"google.golang.org/grpc"
	"k8s.io/client-go/tools/remotecommand"
	"k8s.io/client-go/util/exec"
	"k8s.io/streaming/pkg/httpstream"

	workloadpb "github.com/keelson-os/keelson/pkg/api/workload"
)

// Exit statuses of a program that was not started, as shells give them.
const (
	exitNotExecutable = 126
	exitNotFound      = 127
)

type execStream = grpc.BidiStreamingServer[workloadpb.ExecRequest, workloadpb.ExecResponse]

// Exec implements WorkloadService.
func (s *Server) Exec(stream execStream) error {
	request, err := stream.Recv()
	if err != nil {
		return err
	}
	start := request.GetStart()
	if start == nil || len(start.GetCommand()) == 0 {
		return invalid("the first message of exec is start, and it has a command")
	}
	session, err := s.session(stream.Context())
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(stream.Context())
	defer cancel()
	executor, err := session.executor(ctx, start)
	if err != nil {
		return err
	}
	t := newTerminal(stream, start, cancel)
	defer t.close()
	// Ends with the stream at the latest, which gRPC ends when this returns.
	go t.receive()
	err = executor.StreamWithContext(ctx, t.options(ctx))
	if refused := t.refusal(); refused != nil {
		return refused
	}
	if stream.Context().Err() != nil {
		return statusOf(stream.Context().Err())
	}
	return t.exit(err)
}

// executor checks that there is something to run in, and prepares the
// connection: WebSocket, and SPDY where something between does not speak that.
func (s *session) executor(ctx context.Context, start *workloadpb.ExecStart) (remotecommand.Executor, error) {
	found, err := s.onePod(ctx, start.GetNamespace(), start.GetPod())
	if err != nil {
		return nil, err
	}
	container, err := chooseContainer(found, start.GetContainer())
	if err != nil {
		return nil, err
	}
	if err := checkRuns(found, container); err != nil {
		return nil, err
	}
	address := pod(s.raw.Post(), start.GetNamespace(), found.Name, "exec").URL()
	address.RawQuery = execQuery(start, container).Encode()
	socket, err := remotecommand.NewWebSocketExecutor(s.config, http.MethodGet, address.String())
	if err != nil {
		return nil, statusOf(err)
	}
	spdy, err := remotecommand.NewSPDYExecutor(s.config, http.MethodPost, address)
	if err != nil {
		return nil, statusOf(err)
	}
	return remotecommand.NewFallbackExecutor(socket, spdy, func(err error) bool {
		return httpstream.IsUpgradeFailure(err) || httpstream.IsHTTPSProxyError(err)
	})
}

func execQuery(start *workloadpb.ExecStart, container string) url.Values {
	return url.Values{
		"container": {container},
		"command":   start.GetCommand(),
		"stdin":     {strconv.FormatBool(start.GetStdin())},
		"stdout":    {"true"},
		// A terminal has one output.
		"stderr": {strconv.FormatBool(!start.GetTty())},
		"tty":    {strconv.FormatBool(start.GetTty())},
	}
}

// terminal is the client's side of a running program.
type terminal struct {
	stream execStream
	start  *workloadpb.ExecStart
	cancel context.CancelFunc
	// Input has no buffer: a client is read no faster than the program reads.
	input  *io.PipeReader
	typed  *io.PipeWriter
	resize chan remotecommand.TerminalSize

	mu      sync.Mutex // of sending, and of refused
	refused error
}

func newTerminal(stream execStream, start *workloadpb.ExecStart, cancel context.CancelFunc) *terminal {
	t := &terminal{stream: stream, start: start, cancel: cancel, resize: make(chan remotecommand.TerminalSize, 1)}
	t.input, t.typed = io.Pipe()
	return t
}

// close unblocks receive when nobody reads the input any more.
func (t *terminal) close() { _ = t.input.Close() }

func (t *terminal) options(ctx context.Context) remotecommand.StreamOptions {
	o := remotecommand.StreamOptions{Stdout: output{t, false}, Tty: t.start.GetTty()}
	if t.start.GetStdin() {
		o.Stdin = t.input
	}
	if t.start.GetTty() {
		o.TerminalSizeQueue = sizes{ctx, t.resize}
	} else {
		o.Stderr = output{t, true}
	}
	return o
}

// receive takes the client's messages until it has no more, or is gone.
func (t *terminal) receive() {
	defer t.typed.Close()
	for {
		request, err := t.stream.Recv()
		if err != nil {
			return
		}
		switch message := request.GetMessage().(type) {
		case *workloadpb.ExecRequest_Stdin:
			if !t.start.GetStdin() {
				t.refuse(invalid("stdin was sent, but start did not ask for it"))
				return
			}
			// An error is the program's end, or the client's own end of stdin.
			// Resizes may still come.
			_, _ = t.typed.Write(message.Stdin)
		case *workloadpb.ExecRequest_StdinEnd:
			_ = t.typed.Close()
		case *workloadpb.ExecRequest_Resize:
			t.resized(message.Resize)
		default:
			t.refuse(invalid("start is sent once, as the first message"))
			return
		}
	}
}

// resized replaces a size that nobody has taken yet: only the last one counts.
func (t *terminal) resized(size *workloadpb.WindowSize) {
	select {
	case <-t.resize:
	default:
	}
	t.resize <- remotecommand.TerminalSize{Width: uint16(size.GetColumns()), Height: uint16(size.GetRows())}
}

// refuse ends the call because of what the client sent.
func (t *terminal) refuse(err error) {
	t.mu.Lock()
	t.refused = err
	t.mu.Unlock()
	t.cancel()
}

func (t *terminal) refusal() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.refused
}

func (t *terminal) send(response *workloadpb.ExecResponse) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.stream.Send(response)
}

// exit tells the client how the program ended.
func (t *terminal) exit(err error) error {
	code, message, err := exitOf(err)
	if err != nil {
		return err
	}
	if message != "" {
		if err := t.send(&workloadpb.ExecResponse{Message: &workloadpb.ExecResponse_Stderr{Stderr: []byte(message + "\n")}}); err != nil {
			return err
		}
	}
	return t.send(&workloadpb.ExecResponse{Message: &workloadpb.ExecResponse_Exit{Exit: &workloadpb.ExecExit{Code: code}}})
}

// exitOf tells a program that ended, or that the container does not have, from
// a failure to run one at all. The runtime reports a missing program in words
// only.
func exitOf(err error) (code int32, message string, failure error) {
	if err == nil {
		return 0, "", nil
	}
	if ended, ok := errors.AsType[exec.CodeExitError](err); ok {
		return int32(ended.Code), "", nil
	}
	_, reason, found := strings.Cut(err.Error(), "unable to start container process: ")
	if !found {
		return 0, "", statusOf(fmt.Errorf("run the program in the container: %w", err))
	}
	switch {
	case strings.Contains(reason, "executable file not found"), strings.Contains(reason, "no such file or directory"):
		return exitNotFound, "error: " + reason, nil
	case strings.Contains(reason, "permission denied"), strings.Contains(reason, "exec format error"), strings.Contains(reason, "is a directory"):
		return exitNotExecutable, "error: " + reason, nil
	}
	return 0, "", statusOf(err)
}

// output sends what the program writes.
type output struct {
	*terminal
	stderr bool
}

func (o output) Write(p []byte) (int, error) {
	written := 0
	for len(p) > written {
		chunk := p[written:min(written+chunkSize, len(p))]
		response := &workloadpb.ExecResponse{Message: &workloadpb.ExecResponse_Stdout{Stdout: chunk}}
		if o.stderr {
			response.Message = &workloadpb.ExecResponse_Stderr{Stderr: chunk}
		}
		if err := o.send(response); err != nil {
			return written, err
		}
		written += len(chunk)
	}
	return written, nil
}

// sizes hands window sizes to the executor, until the call ends.
type sizes struct {
	ctx  context.Context
	next <-chan remotecommand.TerminalSize
}

func (s sizes) Next() *remotecommand.TerminalSize {
	select {
	case size := <-s.next:
		return &size
	case <-s.ctx.Done():
		return nil
	}
}
