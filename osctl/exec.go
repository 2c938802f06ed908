package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
	"golang.org/x/term"
	"k8s.io/kubectl/pkg/util/completion"

	"github.com/keelson-os/keelson/pkg/api/workload"
)

func (app *app) execCommand() *cobra.Command {
	command := &cobra.Command{
		Use: "exec pod/NAME [-it] -- PROGRAM [ARGUMENT…]", Short: "Run a program in a pod's container",
		Long: `Run a program in a pod's container. The exit code is the program's; 126 or 127
when the container does not have it.`,
		Example: `  osctl exec pod/web-0 -- /bin/date
  osctl exec -it pod/web-0 -c app -- /bin/sh
  osctl exec deployment/web -- /bin/date    # in one of its pods
  osctl exec -i pod/db-0 -- /bin/restore < dump.sql`,
		ValidArgsFunction: app.completeObjects(completion.PodResourceNameCompletionFunc),
	}
	start := &workload.ExecStart{}
	flags := command.Flags()
	flags.StringVarP(&start.Namespace, "namespace", "n", "", "the pod's namespace (default \"default\")")
	app.completeNamespaces(command)
	flags.StringVarP(&start.Container, "container", "c", "", "the pod's container")
	flags.BoolVarP(&start.Stdin, "stdin", "i", false, "pass standard input on")
	flags.BoolVarP(&start.Tty, "tty", "t", false, "give the program a terminal")
	command.RunE = func(command *cobra.Command, args []string) error {
		if command.ArgsLenAtDash() != 1 || len(args) < 2 {
			return usagef("expected a pod, then -- and a program: osctl exec pod/NAME -- PROGRAM")
		}
		pod := podName(args[0])
		if kind, of, found := strings.Cut(pod, "/"); pod == "" || found && (kind == "" || of == "" || strings.Contains(of, "/")) {
			return usagef("%q: expected pod/NAME, or another KIND/NAME that has pods", args[0])
		}
		start.Pod, start.Command = pod, args[1:]
		return app.exec(command.Context(), start)
	}
	return command
}

// exec runs the program and passes its streams on. Its exit code is returned
// as a programExit.
func (app *app) exec(ctx context.Context, start *workload.ExecStart) error {
	if start.GetTty() && !start.GetStdin() {
		// As kubectl: a raw terminal whose keys go nowhere could not even be
		// interrupted with Ctrl-C.
		fmt.Fprintln(app.stderr, "-t has no effect without -i")
		start.Tty = false
	}
	if start.GetTty() && (!app.terminal || !isTerminal(app.stdin)) {
		// What kubectl does too: a pipe at one end makes a terminal pointless.
		fmt.Fprintln(app.stderr, "not a terminal here: -t has no effect")
		start.Tty = false
	}
	node, err := app.connect(ctx)
	if err != nil {
		return err
	}
	// Ends the senders when the program has ended.
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := node.Workload.Exec(ctx)
	if err != nil {
		return err
	}
	sender := &execSender{stream: stream, requests: make(chan *workload.ExecRequest)}
	if err := stream.Send(&workload.ExecRequest{Message: &workload.ExecRequest_Start{Start: start}}); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if start.GetTty() {
		restore, err := rawTerminal(app.stdin)
		if err != nil {
			return err
		}
		defer restore()
		go sender.sendSizes(ctx)
	}
	if start.GetStdin() {
		// This goroutine may stay in a read of standard input that nothing can
		// interrupt; the program ends soon after.
		go sender.sendStdin(ctx, app.stdin)
	}
	go sender.run(ctx)
	return app.receiveExec(stream)
}

// receiveExec prints what the program prints until it exits.
func (app *app) receiveExec(stream receiver[*workload.ExecResponse]) error {
	exited := false
	code := programExit(0)
	err := each(stream, func(answer *workload.ExecResponse) error {
		var err error
		switch message := answer.GetMessage().(type) {
		case *workload.ExecResponse_Stdout:
			_, err = app.stdout.Write(message.Stdout)
		case *workload.ExecResponse_Stderr:
			_, err = app.stderr.Write(message.Stderr)
		case *workload.ExecResponse_Exit:
			exited, code = true, programExit(message.Exit.GetCode())
		}
		return err
	})
	switch {
	case err != nil:
		return err
	case !exited:
		return errors.New("the connection ended before the program did")
	case code != 0:
		return code
	}
	return nil
}

// execSender is the one goroutine that sends on a stream, for the two that
// have something to send: a gRPC stream takes one sender at a time.
type execSender struct {
	stream   workload.WorkloadService_ExecClient
	requests chan *workload.ExecRequest
}

func (sender *execSender) run(ctx context.Context) {
	for {
		select {
		case request := <-sender.requests:
			if err := sender.stream.Send(request); err != nil {
				return // the receiving side learns why
			}
		case <-ctx.Done():
			return
		}
	}
}

// send hands a request over; false when the call is over.
func (sender *execSender) send(ctx context.Context, request *workload.ExecRequest) bool {
	select {
	case sender.requests <- request:
		return true
	case <-ctx.Done():
		return false
	}
}

func (sender *execSender) sendStdin(ctx context.Context, stdin io.Reader) {
	for {
		buffer := make([]byte, 32<<10)
		count, err := stdin.Read(buffer)
		if count > 0 && !sender.send(ctx, &workload.ExecRequest{Message: &workload.ExecRequest_Stdin{Stdin: buffer[:count]}}) {
			return
		}
		if err != nil {
			sender.send(ctx, &workload.ExecRequest{Message: &workload.ExecRequest_StdinEnd{StdinEnd: true}})
			return
		}
	}
}

// sendSizes sends the terminal's size now and whenever it changes.
func (sender *execSender) sendSizes(ctx context.Context) {
	changed := make(chan os.Signal, 1)
	signal.Notify(changed, unix.SIGWINCH)
	defer signal.Stop(changed)
	for {
		if columns, rows, err := term.GetSize(int(os.Stdout.Fd())); err == nil {
			size := &workload.WindowSize{Columns: uint32(columns), Rows: uint32(rows)}
			if !sender.send(ctx, &workload.ExecRequest{Message: &workload.ExecRequest_Resize{Resize: size}}) {
				return
			}
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}

func isTerminal(stream any) bool {
	file, ok := stream.(*os.File)
	return ok && term.IsTerminal(int(file.Fd()))
}

// rawTerminal makes the terminal pass every key on, Ctrl-C included.
func rawTerminal(stdin io.Reader) (restore func(), err error) {
	descriptor := int(stdin.(*os.File).Fd())
	state, err := term.MakeRaw(descriptor)
	if err != nil {
		return nil, fmt.Errorf("set the terminal to raw mode: %w", err)
	}
	return func() { _ = term.Restore(descriptor, state) }, nil
}
