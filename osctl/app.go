package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/keelson-os/keelson/pkg/client"
	"github.com/keelson-os/keelson/pkg/provision"
)

// Exit codes; exec passes on its program's besides.
const (
	exitOK          = 0
	exitError       = 1
	exitUsage       = 2
	exitInterrupted = 130 // as a shell reports a program ended by SIGINT
)

// app is one call of osctl: its streams, its global flags, and what tests
// replace.
type app struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	// terminal tells whether stdout is one, live whether stderr is: lines there
	// may be redrawn. colour tells whether to use colours.
	terminal, live, colour bool
	now                    func() time.Time
	configPath             func() (string, error)
	dial                   func(context.Context, client.Options) (*client.Client, error)
	createMachines         func(context.Context, provision.Options) (machines, error)
	openMachines           func(name string) (machines, error)
	pollInterval           time.Duration

	// The global flags.
	contextName                        string
	nodes                              []string
	endpoint, fingerprint, pairingCode string

	// started is set when flags and arguments were right.
	started bool
	// dialled is the last connection's options, for error messages.
	dialled *client.Options
}

func newApp() *app {
	terminal, live := term.IsTerminal(int(os.Stdout.Fd())), term.IsTerminal(int(os.Stderr.Fd()))
	return &app{
		stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr,
		terminal:   terminal,
		live:       live,
		colour:     terminal && live && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb",
		now:        time.Now,
		configPath: client.ConfigPath,
		dial:       client.Dial,

		createMachines: createMachines, openMachines: openMachines, pollInterval: defaultPollInterval,
	}
}

func (app *app) globalFlags(root *cobra.Command) {
	flags := root.PersistentFlags()
	flags.StringVar(&app.contextName, "context", "", "context of the client config to use instead of the current one")
	flags.StringSliceVarP(&app.nodes, "node", "N", nil, "nodes to ask, by name or address: NAME[,NAME…], or all; HOST:PORT is dialled by itself, not through an endpoint")
	flags.StringVar(&app.endpoint, "endpoint", "", "HOST[:PORT] of a node in maintenance mode (with --fingerprint and --pairing-code)")
	flags.StringVar(&app.fingerprint, "fingerprint", "", "SHA-256 of the node's certificate, as its console shows it")
	flags.StringVar(&app.pairingCode, "pairing-code", "", "pairing code, as the node's console shows it")
	root.MarkFlagsRequiredTogether("endpoint", "fingerprint", "pairing-code")
	root.MarkFlagsMutuallyExclusive("endpoint", "node")
	root.MarkFlagsMutuallyExclusive("endpoint", "context")
	// Neither fails: the flags exist.
	_ = root.RegisterFlagCompletionFunc("context", app.completeContexts)
	_ = root.RegisterFlagCompletionFunc("node", app.completeNodes)
}

// execute runs the command that args name and returns the exit code.
func (app *app) execute(ctx context.Context, args []string) int {
	root := app.root()
	root.SetArgs(args)
	root.SetIn(app.stdin)
	root.SetOut(app.stdout)
	root.SetErr(app.stderr)
	command, err := root.ExecuteContextC(ctx)
	var program programExit
	var usage usageError
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &program):
		return int(program)
	case errors.Is(err, errReported):
		return exitError
	case ctx.Err() != nil:
		fmt.Fprintln(app.stderr, "interrupted")
		return exitInterrupted
	case !app.started || errors.As(err, &usage):
		fmt.Fprintf(app.stderr, "%s %v\n", app.paint(red, "error:"), err)
		if command.Runnable() && !command.HasSubCommands() {
			fmt.Fprintln(app.stderr, "usage:", command.UseLine())
		}
		fmt.Fprintf(app.stderr, "See \"%s --help\".\n", command.CommandPath())
		return exitUsage
	}
	fmt.Fprintln(app.stderr, app.paint(red, "error:"), app.explain(err))
	return exitError
}

// usageError is an error in how osctl was called that flags' and arguments'
// own checks do not find.
type usageError struct{ error }

func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// programExit is the exit code of a program that exec ran.
type programExit int

func (code programExit) Error() string {
	return fmt.Sprintf("the program exited with code %d", int(code))
}

// loadConfig reads the client config.
func (app *app) loadConfig() (*client.Config, error) {
	path, err := app.configPath()
	if err != nil {
		return nil, err
	}
	return client.LoadConfig(path)
}

// currentContext returns the context in use and its name.
func (app *app) currentContext() (*client.Context, string, error) {
	config, err := app.loadConfig()
	if err != nil {
		return nil, "", err
	}
	name := app.contextName
	if name == "" {
		name = config.Current
	}
	context, err := config.Get(name)
	return context, name, err
}

// connect returns a client of the one node that the global flags choose. It is
// closed when ctx ends. Commands that can ask several nodes use fanOut.
func (app *app) connect(ctx context.Context) (*client.Client, error) {
	if app.endpoint != "" {
		return app.connectTo(ctx, client.Options{Endpoint: app.endpoint, Maintenance: &client.Maintenance{
			Fingerprint: app.fingerprint, PairingCode: app.pairingCode,
		}})
	}
	node := ""
	switch {
	case len(app.nodes) > 1 || len(app.nodes) == 1 && app.nodes[0] == everyNode:
		return nil, usagef("-N %s: this command asks one node; name one, or none", strings.Join(app.nodes, ","))
	case len(app.nodes) == 1:
		node = app.nodes[0]
	}
	access, _, err := app.currentContext()
	if err != nil {
		return nil, err
	}
	connection, err := app.connectTo(ctx, access.Options(node))
	if err != nil || !access.Through(node) {
		return connection, err
	}
	return connection.Node(node), nil
}

func (app *app) connectTo(ctx context.Context, options client.Options) (*client.Client, error) {
	app.dialled = &options
	return app.dial(ctx, options)
}

// width is how many characters a line of the terminal takes.
func (app *app) width() int {
	if columns, _, err := term.GetSize(int(os.Stderr.Fd())); err == nil {
		return columns
	}
	return 80
}

// group is a command that only holds others.
func group(use, short string, commands ...*cobra.Command) *cobra.Command {
	command := &cobra.Command{
		Use: use, Short: short,
		RunE: func(command *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usagef("unknown command %q for %q", args[0], command.CommandPath())
			}
			return command.Help()
		},
	}
	command.AddCommand(commands...)
	return command
}
