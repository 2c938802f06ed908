package kubernetes

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"time"

	"github.com/keelson-os/keelson/machined/supervise"
)

// The metrics server is behind this node's API server and nowhere else: its port
// is on the loopback, and it knows nobody but the API servers' front proxy.
const (
	metricsPort = 10251
	metricsUser = "keelson:metrics-server"
	// metricsName is what API servers want in its certificate: that of the
	// Service that they find it by.
	metricsName = "metrics-server.kube-system.svc"
)

// metricsResolution is how often every kubelet is asked. kubelet has new figures
// of a pod every 10 to 15 s (cAdvisor's; containerd's own collection has no part
// in them), and autoscalers decide every 15 s: asking more often brings nothing, and
// each time less often makes them react as much later. A question costs a
// kubelet what it spends every 10 s by itself, to know when to evict.
const metricsResolution = 15 * time.Second

// metricsPatience is how long a kubelet may take to answer: almost until it is
// asked again, so that a node without a free CPU still has figures.
const metricsPatience = 13 * time.Second

// The first figures need two questions to kubelet. A check of a node that boots
// does not wait for them.
const metricsGrace = 5 * time.Minute

// metricsMemoryMax is room for some thousand pods, a few KiB each; Go's own limit
// is below, so that it collects before the kernel kills. Without pods the process
// holds 18 MiB of its own, 14 of them what the program begins with; with Go's
// default GOGC it were 23 (measured natively).
const metricsMemoryMax = 384 << 20

var metricsEnv = []string{"GOGC=50", "GOMEMLIMIT=320MiB"}

// metricsServer serves what nodes and pods use. It waits for its rights, because
// it would be refused the lists that it begins with.
func (k *Kubernetes) metricsServer() supervise.Spec {
	return k.through(supervise.Spec{
		Name:        MetricsServer,
		Gate:        k.grantedAndReady,
		GateMessage: notGranted,
		Prepare:     k.prepare(MetricsServer, MetricsServer, k.metricsServerFiles),
		Path:        "/usr/bin/" + MetricsServer,
		Args:        k.metricsServerFlags().args(nil),
		Env:         metricsEnv,
		User:        MetricsServer,
		MemoryMax:   metricsMemoryMax,
		// The node lives without it: it starts after what others wait for, and goes
		// before that when memory is short.
		CPUWeight:   20,
		OOMScoreAdj: -900,
		Health:      k.serverHealth(fmt.Sprintf("https://%s:%d/livez", loopback, metricsPort)),
	})
}

func (k *Kubernetes) metricsServerFlags() flags {
	secret := func(name string) string { return k.secrets(MetricsServer, name) }
	return flags{
		"bind-address":         loopback.String(),
		"secure-port":          strconv.Itoa(metricsPort),
		"tls-cert-file":        secret(serverCert),
		"tls-private-key-file": secret(serverKey),
		"tls-min-version":      "VersionTLS13",

		// The kubeconfig's certificate and authority are for kubelets too.
		"kubeconfig":                      secret(kubeconfigFile),
		"kubelet-preferred-address-types": "InternalIP",
		"kubelet-use-node-status-port":    "true",
		"kubelet-request-timeout":         metricsPatience.String(),
		"metric-resolution":               metricsResolution.String(),

		// Nobody is known but by the word of an API server. It is required to have
		// a way to review tokens, and has no right to.
		"authentication-kubeconfig":    secret(kubeconfigFile),
		"authentication-skip-lookup":   "true",
		"authorization-kubeconfig":     secret(kubeconfigFile),
		"requestheader-client-ca-file": secret(aggregatorCA),
		"requestheader-allowed-names":  frontProxy,
	}
}

func (k *Kubernetes) metricsServerFiles() (rendered, error) {
	server, err := k.serverPair(MetricsServer, []string{metricsName})
	if err != nil {
		return rendered{}, err
	}
	access, err := k.serviceKubeconfig(metricsUser)
	if err != nil {
		return rendered{}, err
	}
	return rendered{secrets: map[string][]byte{
		aggregatorCA:   k.aggregatorCA.KeyPair().Cert,
		serverCert:     server.Cert,
		serverKey:      server.Key,
		kubeconfigFile: access,
	}}, nil
}

// metricsManifests are the metrics API's own objects.
func (k *Kubernetes) metricsManifests() ([]byte, error) {
	return render("metrics.yaml.tmpl", map[string]any{
		"CA":   base64.StdEncoding.EncodeToString(k.caCert()),
		"Port": metricsPort,
	})
}

// checkMetrics asks this node's API server for this node's figures: all that
// `kubectl top` and autoscalers need has to work for an answer.
func (k *Kubernetes) checkMetrics(ctx context.Context) Check {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	err := k.api.checkURL(ctx, k.own+"/apis/metrics.k8s.io/v1beta1/nodes/"+url.PathEscape(k.options.Hostname))
	return metricsCheck(err, time.Since(k.started))
}

// metricsCheck says what the answer means on a node that runs for so long.
func metricsCheck(err error, runs time.Duration) Check {
	const name = "metrics"
	var status *statusError
	switch {
	case err == nil:
		return result(name, nil, "served")
	case runs < metricsGrace:
		return result(name, nil, "no figures of this node yet; the first come within a minute of its being Ready")
	case isNotFound(err):
		err = fmt.Errorf("none of this node; see osctl logs %s and osctl logs %s", MetricsServer, Kubelet)
	case errors.As(err, &status):
		err = fmt.Errorf("%s; pods run on, kubectl top and autoscalers do not work here: see osctl logs %s", status.message, MetricsServer)
	default:
		err = fmt.Errorf("%s does not answer (%w)", APIServer, err)
	}
	return result(name, err, "")
}
