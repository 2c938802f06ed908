package join

import (
	"crypto/tls"
	"errors"
	"net"
	"net/netip"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	joinpb "github.com/keelson-os/keelson/pkg/api/join"
	"github.com/keelson-os/keelson/pkg/pki"
)

// listenOn skips the test where the address is none of this machine's.
func listenOn(t *testing.T, address string) net.Listener {
	t.Helper()
	listener, err := net.Listen("tcp", address)
	if err != nil {
		t.Skipf("this machine has no %s: %v", address, err)
	}
	t.Cleanup(func() { listener.Close() })
	return listener
}

func portOf(listener net.Listener) uint16 {
	return listener.Addr().(*net.TCPAddr).AddrPort().Port()
}

func TestJoinByIPv6(t *testing.T) {
	config := newConfig(t)
	d := &door{config: config}
	d.signer, d.cluster = newSigner(t, config)
	ca, err := config.Secrets.OSCA.CA()
	must(t, err)
	pair, err := ca.Issue(pki.Request{CommonName: "apid", Server: true, TTL: time.Hour, IPs: []netip.Addr{netip.IPv6Loopback()}})
	must(t, err)
	cert, err := tls.X509KeyPair(pair.Cert, pair.Key)
	must(t, err)
	listener := listenOn(t, "[::1]:0")
	server := grpc.NewServer(grpc.Creds(credentials.NewServerTLSFromCert(&cert)))
	joinpb.RegisterJoinServiceServer(server, machined{door: d})
	go server.Serve(listener)
	t.Cleanup(server.Stop)
	d.port = portOf(listener)
	if _, err := d.worker(t, config, "::1").ask(deadline(t)); err != nil {
		t.Error(err)
	}
}

// Whoever takes connections and hangs up costs one try, and learns nothing.
func TestJoinOfSomethingElse(t *testing.T) {
	listener := listenOn(t, "127.0.0.1:0")
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			conn.Close()
		}
	}()
	d := &door{port: portOf(listener)}
	_, err := d.worker(t, newConfig(t)).ask(deadline(t))
	if failed, ok := errors.AsType[*roundError](err); !ok || failed.attempts[0].kind != unreached || failed.lasting() {
		t.Errorf("got %v", err)
	}
}
