package kubernetes

import (
	"fmt"
	"net/netip"

	"github.com/keelson-os/keelson/machined/supervise"
	"github.com/keelson-os/keelson/pkg/api/join"
	"github.com/keelson-os/keelson/pkg/machineconfig"
	"github.com/keelson-os/keelson/pkg/pki"
	"github.com/keelson-os/keelson/pkg/secretdir"
)

// Certificates hands out what a control-plane node signed for a worker, by use.
// The error says that there is none.
type Certificates func(join.CertificateRequest_Use) (pki.KeyPair, error)

// Uses of a worker's certificates, as the join API calls them.
const (
	useKubeletClient = join.CertificateRequest_USE_KUBELET_CLIENT
	useKubeletServer = join.CertificateRequest_USE_KUBELET_SERVER
	useKubeProxy     = join.CertificateRequest_USE_KUBE_PROXY
	useFlannel       = join.CertificateRequest_USE_FLANNEL
	useCoreDNS       = join.CertificateRequest_USE_COREDNS
	useLocalPath     = join.CertificateRequest_USE_LOCAL_PATH_PROVISIONER
)

// Files of a service's client certificate. They are apart from its kubeconfig,
// because what reads it (client-go) takes renewed ones from files by itself.
const (
	clientCert = "client.crt"
	clientKey  = "client.key"
)

// isWorker tells whether the node is without the cluster's keys.
func (k *Kubernetes) isWorker() bool { return k.options.Config.Machine.Type == machineconfig.Worker }

// caCert is the certificate (PEM) of the authority that Kubernetes' servers and
// clients have theirs of.
func (k *Kubernetes) caCert() []byte { return []byte(k.options.Config.Secrets.KubernetesCA.Cert) }

// nodeClient is a client certificate for user in groups: minted here, or on a
// worker the one that was signed for use.
func (k *Kubernetes) nodeClient(use join.CertificateRequest_Use, user string, groups ...string) (pki.KeyPair, error) {
	if k.isWorker() {
		return k.options.Certificates(use)
	}
	return clientPair(k.ca, user, groups...)
}

// kubeletServer is the certificate of kubelet's own API.
func (k *Kubernetes) kubeletServer() (pki.KeyPair, error) {
	if k.isWorker() {
		return k.options.Certificates(useKubeletServer)
	}
	return k.serverPair(k.nodeUser(), []string{k.options.Hostname}, k.options.NodeIP)
}

// identity is what machined itself shows to the cluster's API: on a worker it
// acts as the node, which may read little and change only itself.
func (k *Kubernetes) identity(request pki.Request) (pki.KeyPair, error) {
	if k.isWorker() {
		return k.options.Certificates(useKubeletClient)
	}
	return k.ca.Issue(request)
}

// nodeKubeconfig renders the files by which a service of every node reaches the
// cluster's API.
func (k *Kubernetes) nodeKubeconfig(service string, use join.CertificateRequest_Use, user string, groups ...string) (map[string][]byte, error) {
	pair, err := k.nodeClient(use, user, groups...)
	if err != nil {
		return nil, err
	}
	access, err := k.localKubeconfig(user, userAuth{
		CertFile: k.secrets(service, clientCert), KeyFile: k.secrets(service, clientKey),
	})
	if err != nil {
		return nil, err
	}
	return map[string][]byte{kubeconfigFile: access, clientCert: pair.Cert, clientKey: pair.Key}, nil
}

// Renewed gives a worker's running services their renewed certificates. They
// take them from their files; nothing is restarted. Kubelet renews its client
// certificate itself.
func (k *Kubernetes) Renewed() error {
	k.api.forget()
	server, err := k.kubeletServer()
	if err != nil {
		return err
	}
	files := map[string]map[string][]byte{Kubelet: {serverCert: server.Cert, serverKey: server.Key}}
	owners := map[string]string{Kubelet: "root"}
	for service, use := range map[string]join.CertificateRequest_Use{
		KubeProxy: useKubeProxy, Flannel: useFlannel, CoreDNS: useCoreDNS, LocalPath: useLocalPath,
	} {
		pair, err := k.options.Certificates(use)
		if err != nil {
			return err
		}
		files[service], owners[service] = map[string][]byte{clientCert: pair.Cert, clientKey: pair.Key}, service
	}
	for service, content := range files {
		owner, err := k.owner(owners[service])
		if err != nil {
			return err
		}
		if err := secretdir.Write(k.secrets(service), owner, content); err != nil {
			return fmt.Errorf("renew the certificate of %s: %w", service, err)
		}
	}
	return nil
}

// endpoint is where this node's processes reach the cluster's API.
func (k *Kubernetes) endpoint() netip.AddrPort {
	if k.options.Endpoint.IsValid() {
		return k.options.Endpoint
	}
	return netip.AddrPortFrom(loopback, uint16(k.options.APIPort))
}

// through makes a service depend on the way to the cluster's API. It stops
// before this node's own API server, which would wait for its requests.
func (k *Kubernetes) through(spec supervise.Spec) supervise.Spec {
	if !k.isWorker() {
		spec.StopsBefore = append(spec.StopsBefore, APIServer)
	}
	if k.options.EndpointService != "" {
		spec.DependsOn = append(spec.DependsOn, k.options.EndpointService)
	}
	return spec
}
