package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/keelson-os/keelson/pkg/pki"
)

// plainEtcd is upstream's own server, of the version in go.mod.
const plainEtcd = "go.etcd.io/etcd/server/v3"

// How hard etcd is written to.
const (
	etcdRun     = 10 * time.Second
	etcdClients = 64
	etcdValue   = 512 // bytes
)

// EtcdWrites are acknowledged writes a second: of one client that waits for
// each, and of many at once.
type EtcdWrites struct {
	OneClient   float64 `json:"oneClient"`
	ManyClients float64 `json:"manyClients"`
}

// measureEtcd writes to the image's etcd and to upstream's, one after the other,
// natively, on the same disk and with the same TLS.
func measureEtcd(ctx context.Context, artifacts string) (ours, plain EtcdWrites, err error) {
	dir, err := os.MkdirTemp(artifacts, "bench-etcd-") // a real disk, which /tmp may not be
	if err != nil {
		return ours, plain, err
	}
	defer os.RemoveAll(dir)
	upstream := filepath.Join(dir, "plain-etcd")
	if out, err := exec.CommandContext(ctx, "go", "build", "-o", upstream, plainEtcd).CombinedOutput(); err != nil {
		return ours, plain, fmt.Errorf("build upstream's etcd: %w: %s", err, out)
	}
	pair, config, err := etcdKeys(dir)
	if err != nil {
		return ours, plain, err
	}
	bootstrap := filepath.Join(dir, "bootstrap")
	if err := os.WriteFile(bootstrap, nil, 0o600); err != nil {
		return ours, plain, err
	}
	// The build names programs by their folders.
	ours, err = writesPerSecond(ctx, config, filepath.Join(artifacts, "build/programs/server"), func(client, peer string) []string {
		return []string{
			"--name=a", "--data-dir=" + filepath.Join(dir, "ours"), "--bootstrap-if=" + bootstrap, "--cluster-token=bench",
			"--listen-client-urls=" + client, "--advertise-client-urls=" + client, "--peer-url=" + peer,
			"--ca=" + pair("ca.crt"), "--cert=" + pair("server.crt"), "--key=" + pair("server.key"),
			"--peer-cert=" + pair("server.crt"), "--peer-key=" + pair("server.key"), "--peer-name=bench", "--server-name=localhost",
			"--joining=" + filepath.Join(dir, "joining"), "--removed=" + filepath.Join(dir, "removed"), "--admin-socket=" + filepath.Join(dir, "admin.sock"),
			"--log-level=error",
		}
	})
	if err != nil {
		return ours, plain, err
	}
	plain, err = writesPerSecond(ctx, config, upstream, func(client, peer string) []string {
		return []string{
			"--name=a", "--data-dir=" + filepath.Join(dir, "plain"), "--initial-cluster=a=" + peer,
			"--listen-client-urls=" + client, "--advertise-client-urls=" + client,
			"--listen-peer-urls=" + peer, "--initial-advertise-peer-urls=" + peer,
			"--trusted-ca-file=" + pair("ca.crt"), "--cert-file=" + pair("server.crt"), "--key-file=" + pair("server.key"), "--client-cert-auth",
			"--peer-trusted-ca-file=" + pair("ca.crt"), "--peer-cert-file=" + pair("server.crt"), "--peer-key-file=" + pair("server.key"),
			"--peer-client-cert-auth", "--log-level=error",
		}
	})
	return ours, plain, err
}

// etcdKeys writes a CA's certificate and one pair of it that is good for all.
func etcdKeys(dir string) (path func(string) string, config *tls.Config, err error) {
	path = func(name string) string { return filepath.Join(dir, name) }
	ca, err := pki.NewCA("bench", time.Now(), time.Hour)
	if err != nil {
		return nil, nil, err
	}
	pair, err := ca.Issue(pki.Request{
		CommonName: "bench", DNSNames: []string{"localhost"}, IPs: []netip.Addr{netip.MustParseAddr("127.0.0.1")}, Client: true, Server: true, TTL: time.Hour,
	})
	if err != nil {
		return nil, nil, err
	}
	for name, text := range map[string][]byte{"ca.crt": ca.KeyPair().Cert, "server.crt": pair.Cert, "server.key": pair.Key} {
		if err := os.WriteFile(path(name), text, 0o600); err != nil {
			return nil, nil, err
		}
	}
	cert, err := tls.X509KeyPair(pair.Cert, pair.Key)
	if err != nil {
		return nil, nil, err
	}
	roots := x509.NewCertPool()
	roots.AddCert(ca.Certificate())
	return path, &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS13}, nil
}

// writesPerSecond runs one server and writes to it.
func writesPerSecond(ctx context.Context, config *tls.Config, program string, args func(client, peer string) []string) (writes EtcdWrites, err error) {
	client, peer := freeURL(), freeURL()
	var stderr strings.Builder
	server := exec.CommandContext(ctx, program, args(client, peer)...)
	server.Stderr = &stderr
	if err := server.Start(); err != nil {
		return writes, err
	}
	defer func() {
		err = errors.Join(err, server.Process.Signal(syscall.SIGTERM))
		_ = server.Wait() // its exit code says that it was asked to end
	}()
	connection, err := clientv3.New(clientv3.Config{Endpoints: []string{client}, TLS: config, Logger: zap.NewNop(), DialTimeout: 30 * time.Second})
	if err != nil {
		return writes, err
	}
	defer connection.Close()
	ready, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	if _, err := connection.Put(ready, "ready", ""); err != nil {
		return writes, fmt.Errorf("%s does not answer: %w: %s", program, err, stderr.String())
	}
	if writes.OneClient, err = put(ctx, connection, 1); err != nil {
		return writes, err
	}
	writes.ManyClients, err = put(ctx, connection, etcdClients)
	return writes, err
}

// put writes with so many clients for a while and returns writes a second.
func put(ctx context.Context, client *clientv3.Client, clients int) (float64, error) {
	value := strings.Repeat("x", etcdValue)
	counts := make([]int, clients)
	began := time.Now()
	group, ctx := errgroup.WithContext(ctx)
	for i := range counts {
		group.Go(func() error {
			for time.Since(began) < etcdRun {
				if _, err := client.Put(ctx, fmt.Sprintf("bench/%d/%d", i, counts[i]), value); err != nil {
					return err
				}
				counts[i]++
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return 0, err
	}
	all := 0
	for _, count := range counts {
		all += count
	}
	return float64(all) / time.Since(began).Seconds(), nil
}

// freeURL is an address on the loopback that nobody listens on now.
func freeURL() string {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "https://127.0.0.1:0"
	}
	defer listener.Close()
	return "https://" + listener.Addr().String()
}
