package etcd

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/keelson-os/keelson/pkg/pki"
)

// Files of the service's secrets folder.
const (
	caFile     = "ca.crt"
	serverCert = "server.crt"
	serverKey  = "server.key"
	peerCert   = "peer.crt"
	peerKey    = "peer.key"
)

// peerName is the only common name that members accept from each other: a
// client's certificate, though of the same CA, opens no peer connection.
const peerName = "etcd-peer"

var loopback = netip.AddrFrom4([4]byte{127, 0, 0, 1})

// certificates mints the server's and the peer's pair.
func certificates(o Options) (map[string][]byte, error) {
	request := pki.Request{
		CommonName: "etcd-server",
		DNSNames:   []string{"localhost", o.Hostname},
		IPs:        []netip.Addr{loopback, o.NodeIP},
		Server:     true,
		TTL:        pki.NodeTTL,
	}
	server, err := o.CA.Issue(request)
	if err != nil {
		return nil, err
	}
	request.CommonName, request.Client = peerName, true
	peer, err := o.CA.Issue(request)
	if err != nil {
		return nil, err
	}
	return map[string][]byte{
		caFile:     o.CA.KeyPair().Cert,
		serverCert: server.Cert,
		serverKey:  server.Key,
		peerCert:   peer.Cert,
		peerKey:    peer.Key,
	}, nil
}

// newClient makes the client that asks etcd for its health. Its key never
// leaves this process.
func newClient(ca *pki.CA) (*http.Client, error) {
	pair, err := ca.Issue(pki.Request{CommonName: "machined", Client: true, TTL: pki.NodeTTL})
	if err != nil {
		return nil, err
	}
	cert, err := tls.X509KeyPair(pair.Cert, pair.Key)
	if err != nil {
		return nil, fmt.Errorf("read machined's own certificate: %w", err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(ca.Certificate())
	return &http.Client{Transport: &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS13},
		// One connection lives from probe to probe: a handshake each time
		// would be most of what a probe costs.
		MaxIdleConnsPerHost: 1,
		IdleConnTimeout:     time.Minute,
	}}, nil
}

// urls lists https URLs with one port, separated by commas.
func urls(port int, addresses ...netip.Addr) string {
	var list []string
	for _, address := range addresses {
		list = append(list, "https://"+netip.AddrPortFrom(address, uint16(port)).String())
	}
	return strings.Join(list, ",")
}
