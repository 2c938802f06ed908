package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keelson-os/keelson/machined/balancer"
	"github.com/keelson-os/keelson/machined/supervise"
	"github.com/keelson-os/keelson/pkg/pki"
)

const (
	// deadline of every wait: generous, as the machine may be busy.
	deadline   = 60 * time.Second
	asBalancer = "KEELSON_TEST_AS_BALANCER"
)

// TestMain lets the test binary stand in for the balancer program.
func TestMain(m *testing.M) {
	if os.Getenv(asBalancer) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

// cluster is an authority and a balancer's process.
type cluster struct {
	t       *testing.T
	ca      *pki.CA
	options balancer.Options
	service *balancer.Service
	process *exec.Cmd
	stderr  *output
}

// output is what a process writes while others read it.
type output struct {
	mu   sync.Mutex
	text strings.Builder
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

func newCluster(t *testing.T) *cluster {
	t.Helper()
	t.Parallel()
	c := &cluster{t: t, ca: newAuthority(t)}
	c.options = balancer.Options{
		CA: c.ca.KeyPair().Cert,
		LookupUser: func(string) (supervise.User, error) {
			return supervise.User{UID: uint32(os.Getuid()), GID: uint32(os.Getgid())}, nil
		},
		Log:     slog.New(slog.NewTextHandler(t.Output(), nil)),
		Program: os.Args[0], Dir: t.TempDir(), Listen: freeAddress(t),
	}
	c.service = balancer.New(c.options)
	return c
}

func newAuthority(t *testing.T) *pki.CA {
	t.Helper()
	ca, err := pki.NewCA("kubernetes", time.Now(), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

func freeAddress(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}

// start does what the supervisor does, and waits until the service is healthy.
func (c *cluster) start(args ...string) {
	c.t.Helper()
	spec := c.service.Spec()
	if err := spec.Prepare(c.t.Context()); err != nil {
		c.t.Fatal(err)
	}
	c.process = exec.Command(spec.Path, append(append(spec.Args, "--interval=200ms"), args...)...)
	c.process.Env = append(os.Environ(), asBalancer+"=1")
	c.stderr = &output{}
	c.process.Stderr = c.stderr
	if err := c.process.Start(); err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(c.kill)
	c.eventually("the balancer is healthy", func() error { return spec.Health.Probe(c.t.Context()) })
}

func (c *cluster) kill() {
	_ = c.process.Process.Kill()
	_ = c.process.Wait()
}

func (c *cluster) set(servers ...*apiServer) {
	c.t.Helper()
	var list []netip.AddrPort
	for _, s := range servers {
		list = append(list, netip.MustParseAddrPort(s.address))
	}
	if err := c.service.SetUpstreams(list); err != nil {
		c.t.Fatal(err)
	}
}

func (c *cluster) eventually(what string, check func() error) {
	c.t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	timeout := time.After(deadline)
	for {
		err := check()
		if err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-timeout:
			c.t.Fatalf("%s: not within %s: %v\n%s", what, deadline, err, c.stderr)
		}
	}
}

// logged waits for a line of the balancer's log.
func (c *cluster) logged(words string) {
	c.t.Helper()
	c.eventually(fmt.Sprintf("the log says %q", words), func() error {
		if !strings.Contains(c.stderr.String(), words) {
			return errors.New("it does not")
		}
		return nil
	})
}

// client makes a connection of its own for every request.
func (c *cluster) client() *http.Client {
	roots := x509.NewCertPool()
	roots.AddCert(c.ca.Certificate())
	return &http.Client{Timeout: deadline, Transport: &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: roots, ServerName: serverName}, DisableKeepAlives: true,
	}}
}

// who asks which server answers through the balancer.
func (c *cluster) who() (string, error) {
	response, err := c.client().Get("https://" + c.options.Listen + "/who")
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	name, err := io.ReadAll(response.Body)
	return string(name), err
}

// served waits until new connections go to one server.
func (c *cluster) served(want string) {
	c.t.Helper()
	c.eventually("served by "+want, func() error {
		for range 3 {
			if got, err := c.who(); err != nil || got != want {
				return fmt.Errorf("served by %q, %w", got, err)
			}
		}
		return nil
	})
}

// apiServer answers as an API server does.
type apiServer struct {
	name, address string
	listener      net.Listener
	http          *http.Server
	ready         atomic.Bool
	asked         atomic.Int64 // for its readiness
	connections   atomic.Int64 // taken so far
}

// serve starts a server that is ready, on an address of its own or on a given one.
func (c *cluster) serve(name, address string) *apiServer {
	c.t.Helper()
	pair, err := c.ca.Issue(pki.Request{CommonName: name, DNSNames: []string{serverName}, Server: true, TTL: time.Hour})
	if err != nil {
		c.t.Fatal(err)
	}
	cert, err := tls.X509KeyPair(pair.Cert, pair.Key)
	if err != nil {
		c.t.Fatal(err)
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		c.t.Fatal(err)
	}
	s := &apiServer{name: name, address: listener.Addr().String(), listener: listener}
	s.ready.Store(true)
	mux := http.NewServeMux()
	mux.HandleFunc("/readyz", func(w http.ResponseWriter, _ *http.Request) {
		s.asked.Add(1)
		if !s.ready.Load() {
			w.WriteHeader(http.StatusInternalServerError)
		}
	})
	mux.HandleFunc("/who", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, name) })
	mux.HandleFunc("/echo", func(w http.ResponseWriter, r *http.Request) {
		control := http.NewResponseController(w)
		_ = control.EnableFullDuplex()
		w.WriteHeader(http.StatusOK)
		_ = control.Flush()
		for lines := bufio.NewScanner(r.Body); lines.Scan(); {
			fmt.Fprintln(w, lines.Text())
			_ = control.Flush()
		}
	})
	s.http = &http.Server{
		Handler:  mux,
		ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError),
		ConnState: func(_ net.Conn, now http.ConnState) {
			if now == http.StateNew {
				s.connections.Add(1)
			}
		},
	}
	go func() {
		_ = s.http.Serve(tls.NewListener(listener, &tls.Config{Certificates: []tls.Certificate{cert}}))
	}()
	c.t.Cleanup(func() { s.http.Close() })
	return s
}

// unplug lets a server take no more connections; those it has stay.
func (s *apiServer) unplug() { s.listener.Close() }

// stream is a long request, as a watch is.
type stream struct {
	lines  *bufio.Scanner
	write  *io.PipeWriter
	cancel context.CancelFunc
}

func (c *cluster) stream() *stream {
	c.t.Helper()
	ctx, cancel := context.WithCancel(c.t.Context())
	read, write := io.Pipe()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://"+c.options.Listen+"/echo", read)
	if err != nil {
		c.t.Fatal(err)
	}
	client := c.client()
	client.Timeout = 0
	response, err := client.Do(request)
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { cancel(); response.Body.Close() })
	return &stream{lines: bufio.NewScanner(response.Body), write: write, cancel: cancel}
}

// works sends a line there and back.
func (s *stream) works() error {
	if _, err := fmt.Fprintln(s.write, "hello"); err != nil {
		return err
	}
	if !s.lines.Scan() || s.lines.Text() != "hello" {
		return fmt.Errorf("got %q, %w", s.lines.Text(), errors.Join(s.lines.Err(), io.ErrUnexpectedEOF))
	}
	return nil
}

// ends waits until the stream is over.
func (s *stream) ends(c *cluster) {
	c.t.Helper()
	over := make(chan struct{})
	go func() { s.lines.Scan(); close(over) }()
	select {
	case <-over:
	case <-time.After(deadline):
		c.t.Fatalf("the connection lives on\n%s", c.stderr)
	}
}
