package join

import (
	"net/netip"
	"slices"

	joinpb "github.com/keelson-os/keelson/pkg/api/join"
	"github.com/keelson-os/keelson/pkg/pki"
)

// Uses of a worker's certificates.
const (
	useAPIServer     = joinpb.CertificateRequest_USE_API_SERVER
	useKubeletClient = joinpb.CertificateRequest_USE_KUBELET_CLIENT
	useKubeletServer = joinpb.CertificateRequest_USE_KUBELET_SERVER
	useKubeProxy     = joinpb.CertificateRequest_USE_KUBE_PROXY
	useFlannel       = joinpb.CertificateRequest_USE_FLANNEL
	useCoreDNS       = joinpb.CertificateRequest_USE_COREDNS
	useLocalPath     = joinpb.CertificateRequest_USE_LOCAL_PATH_PROVISIONER
)

// uses are all that a worker asks for, in this order.
var uses = []joinpb.CertificateRequest_Use{
	useAPIServer, useKubeletClient, useKubeletServer, useKubeProxy, useFlannel, useCoreDNS, useLocalPath,
}

// profile is what a certificate of one use says, whatever its request does.
type profile struct {
	authority func(*Signer) *pki.CA
	request   func(claim) pki.Request
}

var profiles = map[joinpb.CertificateRequest_Use]profile{
	// Administrators may come through a tunnel, hence the loopback.
	useAPIServer: {osAuthority, func(c claim) pki.Request {
		return pki.Request{
			CommonName: "apid", Server: true, DNSNames: []string{"localhost", c.hostname},
			IPs: slices.Concat([]netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()}, c.addresses),
		}
	}},
	useKubeletClient: {kubernetesAuthority, func(c claim) pki.Request {
		return pki.Request{CommonName: c.nodeUser(), Organizations: []string{"system:nodes"}, Client: true}
	}},
	// Not for the loopback: through it every node's processes reach the
	// Kubernetes API, which a stolen certificate could then pass for.
	useKubeletServer: {kubernetesAuthority, func(c claim) pki.Request {
		return pki.Request{
			CommonName: c.nodeUser(), Organizations: []string{"system:nodes"}, Server: true,
			DNSNames: []string{c.hostname}, IPs: c.addresses,
		}
	}},
	useKubeProxy: component("system:kube-proxy"),
	useFlannel:   component("keelson:flannel"),
	useCoreDNS:   component("keelson:coredns"),
	// By node, because what it may change is the node's own.
	useLocalPath: {kubernetesAuthority, func(c claim) pki.Request {
		return pki.Request{
			CommonName: "keelson:local-path-provisioner:" + c.hostname, Organizations: []string{"keelson:local-path-provisioner"}, Client: true,
		}
	}},
}

// component is a client of Kubernetes that has the same name on every node.
func component(user string) profile {
	return profile{kubernetesAuthority, func(claim) pki.Request {
		return pki.Request{CommonName: user, Client: true}
	}}
}

func osAuthority(s *Signer) *pki.CA         { return s.osCA }
func kubernetesAuthority(s *Signer) *pki.CA { return s.ca }

// nodeUser is the node's name in Kubernetes' authorization.
func (c claim) nodeUser() string { return "system:node:" + c.hostname }
