package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
	"time"
)

// memoryLimit is where the Go runtime begins to collect harder, in bytes: far
// above what an idle balancer holds.
const memoryLimit = 32 << 20

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stderr); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "balancer:", err)
		os.Exit(1)
	}
}

// options are the flags.
type options struct {
	listen         string
	upstreams      string
	prefer         string
	ca             string
	interval       time.Duration
	maxConnections int
}

func parseOptions(args []string, stderr io.Writer) (options, error) {
	var o options
	flags := flag.NewFlagSet("balancer", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.StringVar(&o.listen, "listen", "127.0.0.1:7445", "`address` to take connections on")
	flags.StringVar(&o.upstreams, "upstreams", "", "`file` with the API servers, a JSON list of HOST:PORT; followed when it is replaced")
	flags.StringVar(&o.prefer, "prefer", "", "`address` of an API server to use before all others while it is ready")
	flags.StringVar(&o.ca, "ca", "", "`file` of the CA that the API servers' certificates are of")
	flags.DurationVar(&o.interval, "interval", 15*time.Second, "between two questions to an API server that is ready")
	flags.IntVar(&o.maxConnections, "max-connections", 4096, "connections at a time; more are closed at once")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	return o, o.check(flags.Args())
}

func (o options) check(rest []string) error {
	switch {
	case len(rest) > 0:
		return fmt.Errorf("unexpected argument %q: balancer takes flags only", rest[0])
	case o.upstreams == "" || o.ca == "":
		return errors.New("--upstreams and --ca are needed")
	case o.interval <= 0 || o.maxConnections <= 0:
		return errors.New("--interval and --max-connections must be above zero")
	}
	if o.prefer == "" {
		return nil
	}
	if err := checkUpstream(o.prefer, o.listen); err != nil {
		return fmt.Errorf("--prefer: %w", err)
	}
	return nil
}

// run serves until ctx ends.
func run(ctx context.Context, args []string, stderr io.Writer) error {
	o, err := parseOptions(args, stderr)
	if err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(stderr, nil))
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(memoryLimit)
	}
	asker, err := newAsker(o.ca)
	if err != nil {
		return err
	}
	file := upstreamFile{path: o.upstreams, prefer: o.prefer, listen: o.listen}
	changes, err := file.watch(ctx) // before it is read, so that no change is missed
	if err != nil {
		return err
	}
	list, err := file.read()
	if err != nil {
		return err
	}
	// Clients on the loopback do not vanish without a word, so that nothing has
	// to keep their connections alive.
	listener, err := (&net.ListenConfig{KeepAlive: -1}).Listen(ctx, "tcp", o.listen)
	if err != nil {
		return fmt.Errorf("listen for clients: %w", err)
	}
	defer listener.Close()

	pool := newPool(ctx, o.prefer, schedule{ready: o.interval}, asker.ask, log)
	pool.set(list)
	server := &server{pool: pool, log: log, limit: int64(o.maxConnections)}
	failed := make(chan error, 1)
	go func() { failed <- server.accept(ctx, listener.(*net.TCPListener)) }()
	log.Info("serving", "address", listener.Addr().String(), "upstreams", list)
	for {
		select {
		case <-ctx.Done():
			return nil // the connections end with the process
		case err := <-failed:
			return err
		case err := <-changes:
			if err != nil {
				return err
			}
			list, err := file.read()
			if err != nil {
				log.Error("the upstreams stay as they were", "error", err)
				continue
			}
			pool.set(list)
		}
	}
}
