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
	// joinFile holds whom to join; it lies beside the keys.
	joinFile = "join"
)

// peerName is the only common name that members accept from each other: a
// client's certificate, though of the same CA, opens no peer connection.
const peerName = "etcd-peer"

// serverName is in the certificates of all members of a cluster. Members may be
// called by addresses that are not: one that shows this name is one of them.
func serverName(clusterID string) string { return clusterID + ".etcd.keelson" }

var loopback = netip.AddrFrom4([4]byte{127, 0, 0, 1})

// certificates mints the server's and the peer's pair.
func certificates(o Options) (map[string][]byte, error) {
	request := pki.Request{
		CommonName: "etcd-server",
		DNSNames:   []string{"localhost", o.Hostname, serverName(o.ClusterID)},
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

// credentials are what machined shows to etcd. Their key never leaves this
// process.
func credentials(ca *pki.CA) (*tls.Config, error) {
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
	return &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS13}, nil
}

// newClient makes a client that asks etcd for its health. A name, if given, is
// what must be in the certificate, instead of the address.
func newClient(credentials *tls.Config, name string) *http.Client {
	config := credentials.Clone()
	config.ServerName = name
	return &http.Client{Transport: &http.Transport{
		TLSClientConfig: config,
		// One connection lives from probe to probe: a handshake each time
		// would be most of what a probe costs.
		MaxIdleConnsPerHost: 1,
		IdleConnTimeout:     time.Minute,
	}}
}

// urls lists https URLs with one port, separated by commas.
func urls(port int, addresses ...netip.Addr) string {
	var list []string
	for _, address := range addresses {
		list = append(list, "https://"+netip.AddrPortFrom(address, uint16(port)).String())
	}
	return strings.Join(list, ",")
}
