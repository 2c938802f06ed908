package join

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	joinpb "github.com/keelson-os/keelson/pkg/api/join"
	"github.com/keelson-os/keelson/pkg/identity"
	"github.com/keelson-os/keelson/pkg/machineconfig"
	"github.com/keelson-os/keelson/pkg/pki"
)

// door is a control-plane node as far as joining goes: the real apid on the
// loopback, and the real signer behind machined's socket.
type door struct {
	config  *machineconfig.Config
	port    uint16
	cluster *cluster
	signer  *Signer
	calls   atomic.Int64
}

// buildApid builds the program once for all tests.
func buildApid(t *testing.T) string {
	t.Helper()
	if testing.Short() {
		t.Skip("builds and runs apid")
	}
	path := filepath.Join(t.TempDir(), "apid")
	build := exec.Command("go", "build", "-o", path, "github.com/keelson-os/keelson/apid")
	if text, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build apid: %v\n%s", err, text)
	}
	return path
}

// openDoor runs a control-plane node of a cluster, whose certificate is for an
// address, until the test ends.
func openDoor(t *testing.T, apid string, config *machineconfig.Config, address string) *door {
	t.Helper()
	d := &door{config: config}
	d.signer, d.cluster = newSigner(t, config)
	dir := t.TempDir()
	d.serveMachined(t, filepath.Join(dir, "machined.sock"))

	ca, err := config.Secrets.OSCA.CA()
	must(t, err)
	request := pki.Request{CommonName: "apid", Server: true, TTL: time.Hour, IPs: []netip.Addr{netip.MustParseAddr(address)}}
	if address == "127.0.0.1" {
		request.DNSNames = []string{"localhost"}
	}
	pair, err := ca.Issue(request)
	must(t, err)
	for name, content := range map[string][]byte{"ca.crt": ca.KeyPair().Cert, "server.crt": pair.Cert, "server.key": pair.Key} {
		must(t, os.WriteFile(filepath.Join(dir, name), content, 0o600))
	}
	cmd := exec.Command(apid, "--listen=127.0.0.1:0", "--join-listen=127.0.0.1:0", "--machined="+filepath.Join(dir, "machined.sock"),
		"--ca="+filepath.Join(dir, "ca.crt"), "--cert="+filepath.Join(dir, "server.crt"), "--key="+filepath.Join(dir, "server.key"))
	output, err := cmd.StderrPipe()
	must(t, err)
	must(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
	})
	d.port = joinPort(t, output)
	return d
}

// joinPort reads from apid's log where it lets nodes join.
func joinPort(t *testing.T, output io.Reader) uint16 {
	t.Helper()
	found := make(chan string, 1)
	go func() {
		line := regexp.MustCompile(`letting nodes join.* address=127\.0\.0\.1:(\d+)`)
		for lines := bufio.NewScanner(output); lines.Scan(); { // to the end, so that apid never waits for its log
			if match := line.FindStringSubmatch(lines.Text()); match != nil {
				found <- match[1]
			}
		}
	}()
	select {
	case text := <-found:
		port, err := strconv.ParseUint(text, 10, 16)
		must(t, err)
		return uint16(port)
	case <-time.After(time.Minute):
		t.Fatal("apid does not open its join door")
		return 0
	}
}

// machined is PID 1's API, of which only Join is there.
type machined struct {
	joinpb.UnimplementedJoinServiceServer
	door *door
}

func (m machined) Join(ctx context.Context, request *joinpb.JoinRequest) (*joinpb.JoinResponse, error) {
	m.door.calls.Add(1)
	md, _ := metadata.FromIncomingContext(ctx)
	remote, _ := netip.ParseAddr(strings.Join(md.Get(identity.MetadataRemote), " ")) // stays zero when apid does not tell
	return m.door.signer.Join(ctx, remote, request)
}

func (d *door) serveMachined(t *testing.T, socket string) {
	t.Helper()
	listener, err := net.Listen("unix", socket)
	must(t, err)
	server := grpc.NewServer()
	joinpb.RegisterJoinServiceServer(server, machined{door: d})
	go server.Serve(listener)
	t.Cleanup(server.Stop)
}

// worker is one that knows the control plane by hosts, or as 127.0.0.1.
func (d *door) worker(t *testing.T, config *machineconfig.Config, hosts ...machineconfig.Host) *Join {
	t.Helper()
	if len(hosts) == 0 {
		hosts = []machineconfig.Host{"127.0.0.1"}
	}
	j, err := New(Options{
		Config: workerOf(config, hosts...), Hostname: "worker-1", MachineID: thisMachine, Addresses: []netip.Addr{stranger},
		Port: d.port, Dir: filepath.Join(t.TempDir(), "identity"), Log: slog.New(slog.DiscardHandler), Report: func(error) {},
	})
	must(t, err)
	return j
}

func deadline(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// Everything between a worker and a signer, as it is on real nodes.
func TestThroughApid(t *testing.T) {
	apid := buildApid(t)
	config := newConfig(t)
	d := openDoor(t, apid, config, "127.0.0.1")
	for _, host := range []machineconfig.Host{"127.0.0.1", "localhost"} {
		t.Run("join by "+string(host), func(t *testing.T) {
			j := d.worker(t, config, host)
			made, err := j.Obtain(deadline(t))
			must(t, err)
			pair, err := j.Pair(useKubeletClient)
			must(t, err)
			must(t, pair.Check())
			if time.Until(made.Until()) < TTL-time.Hour || !strings.Contains(d.cluster.told(), "worker-1 joined from 127.0.0.1") {
				t.Errorf("until %s; events: %s", made.Until(), d.cluster.told())
			}
		})
	}
	t.Run("renew", func(t *testing.T) {
		d.signer.now = func() time.Time { return time.Now().Add(-29 * 24 * time.Hour) }
		j := d.worker(t, config)
		before, err := j.Obtain(deadline(t))
		must(t, err)
		d.signer.now = time.Now
		ctx, cancel := context.WithCancel(deadline(t))
		var after *Identity
		j.Keep(ctx, func(next *Identity) { after = next; cancel() })
		if after == nil || !after.Until().After(before.Until()) {
			t.Fatalf("renewed from %v to %v", before, after)
		}
		if kept, err := load(j.options.Dir, j.owner, j.by, time.Now()); err != nil || !kept.Until().Equal(after.Until()) {
			t.Errorf("on the disk: %v, %v", kept, err)
		}
	})
	refusals(t, apid, d)
}

// refusals are all that a worker may be told instead, and whether it told its
// token for that.
func refusals(t *testing.T, apid string, d *door) {
	elsewhere := openDoor(t, apid, d.config, "10.9.9.9")
	nobody := &door{port: freePort(t)}
	// Of the same authorities, but another token, or another cluster's ID.
	token, id := *d.config, *d.config
	otherToken, otherID := *d.config.Secrets, *d.config.Secrets
	otherToken.JoinToken, otherID.ClusterID = "another", "another"
	token.Secrets, id.Secrets = &otherToken, &otherID
	for name, test := range map[string]struct {
		door   *door
		config *machineconfig.Config
		hosts  []machineconfig.Host
		calls  int64
		says   string
	}{
		"wrong token":                {d, &token, nil, 1, "wrong token"},
		"another cluster's ID":       {d, &id, nil, 1, "a config of another cluster"},
		"another cluster's nodes":    {d, newConfig(t), nil, 0, "not a node of this cluster"},
		"another host's certificate": {elsewhere, d.config, nil, 0, "its certificate is not for 127.0.0.1, only for [10.9.9.9]"},
		"nobody there": {nobody, d.config, []machineconfig.Host{"127.0.0.1", "nowhere.invalid"}, 0,
			fmt.Sprintf("127.0.0.1:%d: connection refused; nowhere.invalid: the name does not resolve", nobody.port)},
		"the name of another": {d, d.config, nil, 1, "node worker-1 is in the cluster already and is another machine (ID " + otherMachine},
	} {
		t.Run(name, func(t *testing.T) {
			d.cluster.set(otherMachine, true)
			before := test.door.calls.Load()
			_, err := test.door.worker(t, test.config, test.hosts...).ask(deadline(t))
			if err == nil || !strings.Contains(err.Error(), test.says) {
				t.Errorf("got %v, want %q", err, test.says)
			}
			if calls := test.door.calls.Load() - before; calls != test.calls {
				t.Errorf("%d requests were sent, want %d", calls, test.calls)
			}
		})
	}
}

// freePort is one that nobody listens on.
func freePort(t *testing.T) uint16 {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer listener.Close()
	return listener.Addr().(*net.TCPAddr).AddrPort().Port()
}
