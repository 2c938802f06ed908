package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"k8s.io/klog/v2"
)

// memoryLimit is where the Go runtime begins to collect harder, in bytes. It
// is several times what apid holds when idle, and keeps a burst of calls from
// leaving a large heap behind.
const memoryLimit = 96 << 20

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stderr); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "apid:", err)
		os.Exit(1)
	}
}

// options are apid's flags.
type options struct {
	listen      string
	joinListen  string
	machined    string
	etcdAdmin   string
	ca          string
	cert        string
	key         string
	forwardCert string
	forwardKey  string
	kubeconfig  string
	// controlPlanes are addresses without zones or mapped forms.
	controlPlanes []netip.Addr
	maintenance   bool
	pairingCode   string
	logFormat     string

	// For tests: the node's name, if it is not the host's, and who may call
	// what, if that differs from the table.
	node    string
	methods map[string][]string
}

func parseOptions(args []string, stderr io.Writer) (options, error) {
	var o options
	flags := flag.NewFlagSet("apid", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.StringVar(&o.listen, "listen", ":50000", "`address` to serve the API on")
	flags.StringVar(&o.joinListen, "join-listen", "", "`address` where nodes without certificates join; none unless given, as only control-plane nodes can let them")
	flags.StringVar(&o.machined, "machined", "/run/keelson/machined/machined.sock", "`socket` of machined's API")
	flags.StringVar(&o.etcdAdmin, "etcd-admin", "/run/keelson/etcd/admin.sock", "`socket` of etcd's own API; it exists where etcd runs")
	flags.StringVar(&o.ca, "ca", "", "certificate `file` of the CA that client certificates are of")
	flags.StringVar(&o.cert, "cert", "", "certificate `file` of this server")
	flags.StringVar(&o.key, "key", "", "private key `file` of this server")
	flags.StringVar(&o.forwardCert, "forward-cert", "", "certificate `file` for passing calls on to other nodes; without it none is")
	flags.StringVar(&o.forwardKey, "forward-key", "", "private key `file` of --forward-cert")
	flags.Func("control-plane", "`address` of a control-plane node, which calls are passed on to while the cluster does not know its nodes; may be repeated", func(text string) error {
		address, err := netip.ParseAddr(text)
		o.controlPlanes = append(o.controlPlanes, address.Unmap())
		return err
	})
	flags.StringVar(&o.kubeconfig, "kubeconfig", "", "kubeconfig `file` for the workload service; may appear later, but is given on control-plane nodes only")
	flags.BoolVar(&o.maintenance, "maintenance", false, "serve a node without config: a pairing code in place of client certificates")
	flags.StringVar(&o.pairingCode, "pairing-code-file", "", "`file` that holds the pairing code, for maintenance")
	flags.StringVar(&o.logFormat, "log-format", "text", "log lines as `text|json`")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	return o, o.check(flags.Args())
}

func (o options) check(rest []string) error {
	switch {
	case len(rest) > 0:
		return fmt.Errorf("unexpected argument %q: apid takes flags only", rest[0])
	case o.cert == "" || o.key == "":
		return errors.New("--cert and --key are needed")
	case !o.maintenance && o.ca == "":
		return errors.New("--ca is needed: without it no client can be told from another")
	case o.maintenance && o.joinListen != "":
		return errors.New("--join-listen is not for maintenance: a node without config has no cluster to join")
	case (o.forwardCert == "") != (o.forwardKey == ""):
		return errors.New("--forward-cert and --forward-key belong together")
	case o.maintenance && o.pairingCode == "":
		return errors.New("--pairing-code-file is needed with --maintenance: without it the first stranger would own the node")
	case o.logFormat != "text" && o.logFormat != "json":
		return fmt.Errorf("--log-format %q: want text or json", o.logFormat)
	}
	return nil
}

// table is who may call what.
func (o options) table() map[string][]string {
	if o.methods != nil {
		return o.methods
	}
	return methods
}

// run serves the API until ctx ends.
func run(ctx context.Context, args []string, stderr io.Writer) error {
	o, err := parseOptions(args, stderr)
	if err != nil {
		return err
	}
	log := newLogger(o.logFormat, stderr)
	klog.SetSlogLogger(log)
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(memoryLimit)
	}
	server, err := newServer(o, log)
	if err != nil {
		return err
	}
	defer server.close()
	listener, err := net.Listen("tcp", o.listen)
	if err != nil {
		return fmt.Errorf("listen for API clients: %w", err)
	}
	log.Info("serving the API", "address", listener.Addr().String(), "maintenance", o.maintenance)
	if server.join == nil {
		return server.serve(ctx, listener)
	}
	joins, err := net.Listen("tcp", o.joinListen)
	if err != nil {
		return errors.Join(fmt.Errorf("listen for nodes that join: %w", err), listener.Close())
	}
	log.Info("letting nodes join", "address", joins.Addr().String())
	return server.serveBoth(ctx, listener, joins)
}

func newLogger(format string, w io.Writer) *slog.Logger {
	if format == "json" {
		return slog.New(slog.NewJSONHandler(w, nil))
	}
	return slog.New(slog.NewTextHandler(w, nil))
}
