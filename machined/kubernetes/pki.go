package kubernetes

import (
	"net/netip"
	"net/url"
	"time"

	"github.com/keelson-os/keelson/pkg/pki"
)

// rotatedTTL is the life of kubelet's client certificate, the first and each
// that the controller-manager signs after it: that one leaves this scheme,
// because a worker gets it from another node.
const rotatedTTL = 30 * 24 * time.Hour

var loopback = netip.AddrFrom4([4]byte{127, 0, 0, 1})

// Files that several services have.
const (
	caFile         = "ca.crt"
	serverCert     = "server.crt"
	serverKey      = "server.key"
	kubeconfigFile = "kubeconfig"
	aggregatorCA   = "aggregator-ca.crt" // which the API servers' front proxy has its certificate of
)

// clientPair mints a client's certificate.
func clientPair(ca *pki.CA, user string, groups ...string) (pki.KeyPair, error) {
	return ca.Issue(pki.Request{CommonName: user, Organizations: groups, Client: true, TTL: pki.NodeTTL})
}

// serverPair mints a server's certificate for names and addresses; that of a
// service that only the node itself reaches has the loopback alone.
func (k *Kubernetes) serverPair(name string, names []string, addresses ...netip.Addr) (pki.KeyPair, error) {
	return k.ca.Issue(pki.Request{
		CommonName: name,
		DNSNames:   append([]string{"localhost"}, names...),
		IPs:        append([]netip.Addr{loopback}, addresses...),
		Server:     true,
		TTL:        pki.NodeTTL,
	})
}

// apiNames are the names and addresses by which the API server is reached: in
// the cluster, on the node, and from outside.
func (k *Kubernetes) apiNames() (names []string, addresses []netip.Addr) {
	cluster := k.options.Config.Cluster
	names = []string{
		"kubernetes", "kubernetes.default", "kubernetes.default.svc",
		"kubernetes.default.svc." + cluster.Network.DNSDomain, k.options.Hostname,
	}
	// The first address of the service subnet is the Service "kubernetes".
	addresses = append(addresses, k.options.NodeIP, cluster.Network.ServiceSubnet.Masked().Addr().Next())
	for _, host := range cluster.ControlPlane.Addresses {
		if address, ok := host.Addr(); ok {
			addresses = append(addresses, address)
		} else {
			names = append(names, string(host))
		}
	}
	addresses = append(addresses, cluster.ControlPlane.VirtualIPs...)
	if endpoint, err := url.Parse(cluster.Endpoint); err == nil && endpoint.Hostname() != "" {
		if address, err := netip.ParseAddr(endpoint.Hostname()); err == nil {
			addresses = append(addresses, address)
		} else {
			names = append(names, endpoint.Hostname())
		}
	}
	return names, addresses
}
