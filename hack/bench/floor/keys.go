package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"github.com/keelson-os/keelson/pkg/pki"
)

// prober asks etcd and the API server whether they are ready.
type prober struct{ http.Client }

// waitFor polls a URL until it answers 200.
func (p *prober) waitFor(ctx context.Context, url string) error {
	for {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return err
		}
		response, err := p.Do(request)
		if err == nil {
			response.Body.Close()
			if response.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for %s: %w (last: %v)", url, context.Cause(ctx), err)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// makeKeys writes one CA and one certificate that serves every purpose here.
func makeKeys(dir string) (*prober, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	ca, err := pki.NewCA("floor", time.Now(), 24*time.Hour)
	if err != nil {
		return nil, err
	}
	pair, err := ca.Issue(pki.Request{
		CommonName: "floor", Organizations: []string{"system:masters"}, DNSNames: []string{"localhost"},
		IPs: []netip.Addr{netip.MustParseAddr("127.0.0.1")}, Client: true, Server: true, TTL: time.Hour,
	})
	if err != nil {
		return nil, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return nil, err
	}
	for name, text := range map[string][]byte{
		"ca.crt": ca.KeyPair().Cert, "floor.crt": pair.Cert, "floor.key": pair.Key,
		"sa.key": pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			return nil, err
		}
	}
	cert, err := tls.X509KeyPair(pair.Cert, pair.Key)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	roots.AddCert(ca.Certificate())
	return &prober{http.Client{
		Timeout:   10 * time.Second,
		Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{cert}}},
	}}, nil
}

func etcdCommand(keys string) []string {
	return []string{
		"/usr/bin/etcd", "--name=floor", "--data-dir=/var/etcd", "--bootstrap-if=/run/bootstrap", "--cluster-token=floor",
		"--listen-client-urls=https://127.0.0.1:2379", "--advertise-client-urls=https://127.0.0.1:2379",
		"--peer-url=https://127.0.0.1:2380", "--peer-name=floor", "--server-name=localhost",
		"--joining=/run/joining", "--removed=/run/removed", "--admin-socket=/run/etcd.sock",
		"--ca=" + keys + "/ca.crt", "--cert=" + keys + "/floor.crt", "--key=" + keys + "/floor.key",
		"--peer-cert=" + keys + "/floor.crt", "--peer-key=" + keys + "/floor.key",
	}
}

// apiServerCommand holds the fewest flags with which the API server is
// usable by a cluster: TLS to etcd and clients, RBAC, service accounts.
func apiServerCommand(keys string) []string {
	return []string{
		"/usr/bin/kube-apiserver", "--etcd-servers=https://127.0.0.1:2379",
		"--etcd-cafile=" + keys + "/ca.crt", "--etcd-certfile=" + keys + "/floor.crt", "--etcd-keyfile=" + keys + "/floor.key",
		"--tls-cert-file=" + keys + "/floor.crt", "--tls-private-key-file=" + keys + "/floor.key", "--client-ca-file=" + keys + "/ca.crt",
		"--service-account-key-file=" + keys + "/sa.key", "--service-account-signing-key-file=" + keys + "/sa.key",
		"--service-account-issuer=https://kubernetes.default.svc", "--service-cluster-ip-range=10.96.0.0/16",
		"--authorization-mode=Node,RBAC", "--advertise-address=127.0.0.1", "--endpoint-reconciler-type=none",
	}
}
