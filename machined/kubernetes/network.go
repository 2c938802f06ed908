package kubernetes

import (
	"context"
	"fmt"
	"net"
	"os"
	"strconv"
	"time"

	"github.com/keelson-os/keelson/machined/supervise"
	"github.com/keelson-os/keelson/pkg/api/join"
	"github.com/keelson-os/keelson/pkg/secretdir"
)

// Ports on the loopback by which services are asked for their health.
// kube-proxy's is its default; CoreDNS' own (8080, 8181) would take ports that
// pods on the host's network like.
const (
	proxyHealthPort   = 10256
	dnsHealthPort     = 9253
	dnsReadyPort      = 9254
	proxyOOMScoreAdj  = -999 // kube-proxy writes the same, and may not lower it
	networkOOMAdj     = -990
	capNetAdmin       = "CAP_NET_ADMIN"
	capNetBindService = "CAP_NET_BIND_SERVICE"
)

// cniDir is where flannel writes and containerd reads the CNI configuration;
// cniFile appears once the node's pods have a subnet. In flannelDir flannel
// says what is wrong although it runs.
const (
	cniDir       = "/run/keelson/cni"
	cniFile      = "10-keelson.conflist"
	flannelDir   = "/run/keelson/flannel"
	problemsFile = "problems"
)

// wireGuardKey is this node's private key of the pod network, which flannel
// makes for itself. It is gone after a reboot.
const wireGuardKey = "wireguard.key"

const notReady = "the Kubernetes API is not ready yet"

const notGranted = "its rights in the cluster are not granted yet"

// kubeProxy waits for a ready API server, as flannel and CoreDNS do: what they
// would do before is to be refused, and to back off.
func (k *Kubernetes) kubeProxy() supervise.Spec {
	return k.through(supervise.Spec{
		Name:         KubeProxy,
		Gate:         k.ready.wait,
		GateMessage:  notReady,
		Prepare:      k.prepare(KubeProxy, KubeProxy, k.kubeProxyFiles),
		Path:         "/usr/bin/" + KubeProxy,
		Args:         flags{"config": k.config(KubeProxy, "config.yaml")}.args(nil),
		User:         KubeProxy,
		Capabilities: []string{capNetAdmin},
		OOMScoreAdj:  proxyOOMScoreAdj,
		Health:       k.serverHealth(fmt.Sprintf("http://127.0.0.1:%d/healthz", proxyHealthPort)),
	})
}

// flannel joins the nodes' pod subnets to one network.
func (k *Kubernetes) flannel() supervise.Spec {
	render := k.prepare(Flannel, Flannel, k.flannelFiles)
	conflist := k.path(cniDir, cniFile)
	return k.through(supervise.Spec{
		Name:        Flannel,
		Gate:        k.grantedAndReady,
		GateMessage: notGranted,
		Prepare: func(ctx context.Context) error {
			owner, err := k.owner(Flannel)
			if err != nil {
				return err
			}
			for _, dir := range []string{cniDir, flannelDir} {
				if err := secretdir.Make(k.path(dir), owner); err != nil {
					return err
				}
			}
			return render(ctx)
		},
		Path: "/usr/bin/flanneld",
		Args: flags{
			"cni-config":    conflist,
			"kubeconfig":    k.secrets(Flannel, kubeconfigFile),
			"net-config":    k.config(Flannel, "network.json"),
			"node-ip":       k.options.NodeIP.String(),
			"node-name":     k.options.Hostname,
			"problems":      k.path(flannelDir, problemsFile),
			"wireguard-key": k.secrets(Flannel, wireGuardKey),
		}.args(nil),
		User:         Flannel,
		Capabilities: []string{capNetAdmin},
		OOMScoreAdj:  networkOOMAdj,
		Health: &supervise.HealthCheck{
			Probe: func(context.Context) error {
				if _, err := os.Stat(conflist); err != nil {
					return fmt.Errorf("the node has no pod network yet: %w", err)
				}
				return nil
			},
			Interval: 30 * time.Second,
			// The controller-manager gives the node its subnet, once it runs.
			StartTimeout: 10 * time.Minute,
		},
	})
}

// coreDNS answers pods' DNS questions on this node.
func (k *Kubernetes) coreDNS() supervise.Spec {
	return k.through(supervise.Spec{
		Name:         CoreDNS,
		Gate:         k.grantedAndReady,
		GateMessage:  notGranted,
		Prepare:      k.prepare(CoreDNS, CoreDNS, k.coreDNSFiles),
		Path:         "/usr/bin/" + CoreDNS,
		Args:         []string{"-conf", k.config(CoreDNS, "Corefile")},
		User:         CoreDNS,
		Capabilities: []string{capNetBindService},
		OOMScoreAdj:  networkOOMAdj,
		Health:       k.serverHealth(fmt.Sprintf("http://127.0.0.1:%d/ready", dnsReadyPort)),
	})
}

func (k *Kubernetes) kubeProxyFiles() (rendered, error) {
	return k.networkFiles(KubeProxy, useKubeProxy, "system:kube-proxy", "config.yaml", "kube-proxy.yaml.tmpl", map[string]any{
		"Hostname":    k.options.Hostname,
		"PodSubnet":   k.options.Config.Cluster.Network.PodSubnet,
		"Secrets":     k.secrets(KubeProxy),
		"OOMScoreAdj": proxyOOMScoreAdj,
	})
}

func (k *Kubernetes) flannelFiles() (rendered, error) {
	return k.networkFiles(Flannel, useFlannel, "keelson:flannel", "network.json", "flannel.json.tmpl", k.options.Config.Cluster.Network)
}

// coreDNSFiles forwards what is not the cluster's to the node's own upstream
// servers, if it has any. They are named here, never by the node's
// resolv.conf, so that no loop through this server itself can come about.
func (k *Kubernetes) coreDNSFiles() (rendered, error) {
	local := func(port int) string { return net.JoinHostPort(loopback.String(), strconv.Itoa(port)) }
	return k.networkFiles(CoreDNS, useCoreDNS, "keelson:coredns", "Corefile", "Corefile.tmpl", map[string]any{
		"DNSAddress": DNSAddress,
		"DNSDomain":  k.options.Config.Cluster.Network.DNSDomain,
		"Health":     local(dnsHealthPort),
		"Ready":      local(dnsReadyPort),
		"Secrets":    k.secrets(CoreDNS),
		"Upstreams":  k.options.Nameservers,
	})
}

// networkFiles is a service's kubeconfig for user, and a config file from a
// template.
func (k *Kubernetes) networkFiles(service string, use join.CertificateRequest_Use, user, name, template string, data any) (rendered, error) {
	config, err := render(template, data)
	if err != nil {
		return rendered{}, err
	}
	access, err := k.nodeKubeconfig(service, use, user)
	if err != nil {
		return rendered{}, err
	}
	return rendered{secrets: access, config: map[string][]byte{name: config}}, nil
}

// grantedAndReady returns when what the service asks of the cluster is granted
// to it and can be answered.
func (k *Kubernetes) grantedAndReady(ctx context.Context) error {
	if err := k.granted.wait(ctx); err != nil {
		return err
	}
	return k.ready.wait(ctx)
}
