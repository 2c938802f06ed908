package kubernetes

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/keelson-os/keelson/machined/supervise"
)

// Ports of the controllers' own servers, Kubernetes' defaults.
const (
	controllerManagerPort = 10257
	schedulerPort         = 10259
)

// A node that died is found out after nodeGrace, and its pods are made elsewhere
// unreachableSeconds later: docs/failures.md promises two minutes with all there
// is to do. kubelet tells every ten seconds that it lives; a machine that is
// emulated and busy may miss some of these.
//
// One whose kubelet says that it is not ready lives, and mostly boots: taking its
// pods away as soon as that would move them at every power cut.
const (
	nodeGrace          = 50 * time.Second
	unreachableSeconds = 30
	notReadySeconds    = 120
)

// controllerManager waits for a ready API server: it exits when there is none
// within a minute, and its controllers' roles are the last thing that a first
// boot writes.
func (k *Kubernetes) controllerManager() supervise.Spec {
	render := k.prepare(ControllerManager, ControllerManager, k.controllerManagerFiles)
	spec := k.controller(ControllerManager, controllerManagerPort, render)
	spec.Args = k.controllerManagerFlags().args(k.options.Config.Cluster.ControllerManager.ExtraArgs)
	return spec
}

func (k *Kubernetes) controllerManagerFlags() flags {
	cluster := k.options.Config.Cluster
	secret := func(name string) string { return k.secrets(ControllerManager, name) }
	return merged(k.controllerFlags(ControllerManager), flags{
		"cluster-name":                     cluster.Name,
		"allocate-node-cidrs":              "true",
		"cluster-cidr":                     cluster.Network.PodSubnet.String(),
		"service-cluster-ip-range":         cluster.Network.ServiceSubnet.String(),
		"root-ca-file":                     secret(caFile),
		"service-account-private-key-file": secret("service-account.key"),
		"cluster-signing-cert-file":        secret(caFile),
		"cluster-signing-key-file":         secret("ca.key"),
		"cluster-signing-duration":         rotatedTTL.String(),
		"node-monitor-grace-period":        nodeGrace.String(),
		// Every controller with rights of its own. On a first boot that is a
		// service account and a token each, some forty of both; with the
		// default of 20 requests a second the client would spend seconds
		// waiting for itself. The API server's own fairness still protects it.
		"use-service-account-credentials": "true",
		"kube-api-qps":                    "100",
		"kube-api-burst":                  "200",
	})
}

func (k *Kubernetes) controllerManagerFiles() (rendered, error) {
	files, err := k.controllerFiles(ControllerManager)
	if err != nil {
		return rendered{}, err
	}
	files.secrets["ca.key"] = k.ca.KeyPair().Key // signs kubelets' renewed certificates
	files.secrets["service-account.key"] = []byte(k.options.Config.Secrets.ServiceAccountKey)
	return files, nil
}

func (k *Kubernetes) schedulerFiles() (rendered, error) { return k.controllerFiles(Scheduler) }

func (k *Kubernetes) scheduler() supervise.Spec {
	render := k.prepare(Scheduler, Scheduler, k.schedulerFiles)
	spec := k.controller(Scheduler, schedulerPort, render)
	spec.Args = k.controllerFlags(Scheduler).args(k.options.Config.Cluster.Scheduler.ExtraArgs)
	return spec
}

// controller is what the two have in common.
func (k *Kubernetes) controller(name string, port int, render func(context.Context) error) supervise.Spec {
	return k.through(supervise.Spec{
		Name:        name,
		Gate:        k.ready.wait,
		GateMessage: notReady,
		Prepare: func(ctx context.Context) error {
			k.releaseLease(ctx, name)
			return render(ctx)
		},
		Path:        "/usr/bin/" + name,
		User:        name,
		OOMScoreAdj: -990,
		Health:      k.serverHealth(fmt.Sprintf("https://127.0.0.1:%d/healthz", port)),
	})
}

// controllerFlags are those that the two have in common.
func (k *Kubernetes) controllerFlags(name string) flags {
	secret := func(file string) string { return k.secrets(name, file) }
	return merged(leaderElection, flags{
		"kubeconfig":                secret(kubeconfigFile),
		"authentication-kubeconfig": secret(kubeconfigFile),
		"authorization-kubeconfig":  secret(kubeconfigFile),
		// Whom to trust is told here, instead of being asked of the API server
		// at start and watched from then on.
		"authentication-skip-lookup": "true",
		"client-ca-file":             secret(caFile),
		"bind-address":               loopback.String(),
		"tls-cert-file":              secret(serverCert),
		"tls-private-key-file":       secret(serverKey),
		"tls-min-version":            "VersionTLS13",
		"profiling":                  "false",
	})
}

// controllerFiles renders the files that the two have in common. Kubernetes'
// own roles are bound to users of these names.
func (k *Kubernetes) controllerFiles(name string) (rendered, error) {
	server, err := k.serverPair(name, nil)
	if err != nil {
		return rendered{}, err
	}
	config, err := k.serviceKubeconfig("system:" + name)
	if err != nil {
		return rendered{}, err
	}
	return rendered{secrets: map[string][]byte{
		caFile:         k.caCert(),
		serverCert:     server.Cert,
		serverKey:      server.Key,
		kubeconfigFile: config,
	}}, nil
}

// releaseLease gives up the leadership that the last process of this service on
// this node held: it is dead, or it would not be started again. Without this a
// restart would wait the whole lease out, a minute in which no pod starts.
// Whatever goes wrong here costs no more than that wait.
func (k *Kubernetes) releaseLease(ctx context.Context, name string) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	path := "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/" + url.PathEscape(name)
	var lease struct {
		Metadata struct {
			ResourceVersion string `json:"resourceVersion"`
		} `json:"metadata"`
		Spec struct {
			Holder string `json:"holderIdentity"`
		} `json:"spec"`
	}
	err := k.api.get(ctx, path, &lease)
	if isNotFound(err) {
		return // a first boot
	}
	// The identity is the host's name, an underscore and a random part.
	if err == nil && strings.HasPrefix(lease.Spec.Holder, k.options.Hostname+"_") {
		patch := map[string]any{
			"metadata": map[string]any{"resourceVersion": lease.Metadata.ResourceVersion},
			"spec":     map[string]any{"holderIdentity": nil},
		}
		err = k.api.send(ctx, http.MethodPatch, path, "application/merge-patch+json", patch)
	}
	if err != nil {
		k.options.Log.Warn("leadership of the last process not released; its successor waits for it to expire",
			slog.String("service", name), slog.Any("error", err))
	}
}
