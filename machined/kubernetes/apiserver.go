package kubernetes

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/keelson-os/keelson/machined/supervise"
	"github.com/keelson-os/keelson/pkg/secretdir"
)

// Names in certificates by which servers know their clients.
const (
	apiServerUser = "keelson:kube-apiserver" // towards etcd and kubelets
	frontProxy    = "front-proxy-client"     // towards extension API servers; the name is Kubernetes' custom
)

// The audit log is bounded: this many files of this size.
const (
	auditFiles     = 3
	auditMegabytes = 32
)

func (k *Kubernetes) apiServer() supervise.Spec {
	render := k.prepare(APIServer, APIServer, k.apiServerFiles)
	return supervise.Spec{
		Name:      APIServer,
		DependsOn: []string{etcd},
		Prepare: func(ctx context.Context) error {
			k.ownReady.lose()
			k.loseAPI()
			if err := k.makeAuditDir(); err != nil {
				return err
			}
			return render(ctx)
		},
		Path: "/usr/bin/" + APIServer,
		Args: k.apiServerFlags().args(k.options.Config.Cluster.APIServer.ExtraArgs),
		// Measured until ready on a first boot: 15 % less CPU than Go's 100, for
		// 30 MiB more (400: 25 %, 90 MiB). The other components' heaps are so
		// small that there is nothing to win.
		Env:         []string{"GOGC=200"},
		User:        APIServer,
		NoFile:      1 << 16,
		OOMScoreAdj: -997,
		Health: &supervise.HealthCheck{
			Probe:    k.probeAPIServer,
			Interval: probeInterval,
			Timeout:  probeTimeout,
			Failures: probeFailures,
			// The first start of a cluster writes some 300 objects: seconds on
			// a machine, a minute and more on an emulated one.
			StartTimeout: 10 * time.Minute,
		},
		StopTimeout: 30 * time.Second,
	}
}

func (k *Kubernetes) apiServerFlags() flags {
	secret := func(name string) string { return k.secrets(APIServer, name) }
	config := func(name string) string { return k.config(APIServer, name) }
	cluster := k.options.Config.Cluster
	return flags{
		"advertise-address": k.options.NodeIP.String(),
		"secure-port":       strconv.Itoa(k.options.APIPort),
		"allow-privileged":  "true", // Pod Security decides who may
		"profiling":         "false",
		// Else the watches of other nodes would hold up its end for a minute, until
		// the supervisor kills it.
		"shutdown-watch-termination-grace-period": "5s",

		"etcd-servers":  fmt.Sprintf("https://127.0.0.1:%d", k.options.EtcdPort),
		"etcd-cafile":   secret("etcd-ca.crt"),
		"etcd-certfile": secret("etcd-client.crt"),
		"etcd-keyfile":  secret("etcd-client.key"),

		"tls-cert-file":        secret(serverCert),
		"tls-private-key-file": secret(serverKey),
		"tls-min-version":      "VersionTLS12", // kubectl has spoken 1.3 for years; proxies in between may not
		"client-ca-file":       secret(caFile),

		"authorization-mode":               "Node,RBAC",
		"authentication-config":            config("authentication.yaml"),
		"enable-admission-plugins":         "NodeRestriction",
		"admission-control-config-file":    config("admission.yaml"),
		"encryption-provider-config":       secret("encryption.yaml"),
		"audit-policy-file":                config("audit.yaml"),
		"audit-log-path":                   k.path(auditDir, "audit.log"),
		"audit-log-maxbackup":              strconv.Itoa(auditFiles - 1),
		"audit-log-maxsize":                strconv.Itoa(auditMegabytes),
		"service-account-issuer":           "https://kubernetes.default.svc." + cluster.Network.DNSDomain,
		"service-account-key-file":         secret("service-account.key"),
		"service-account-signing-key-file": secret("service-account.key"),
		"service-cluster-ip-range":         cluster.Network.ServiceSubnet.String(),

		// Of pods that do not say themselves how long they stay on such a node.
		"default-unreachable-toleration-seconds": strconv.Itoa(unreachableSeconds),
		"default-not-ready-toleration-seconds":   strconv.Itoa(notReadySeconds),

		"kubelet-client-certificate":      secret("kubelet-client.crt"),
		"kubelet-client-key":              secret("kubelet-client.key"),
		"kubelet-certificate-authority":   secret(caFile),
		"kubelet-preferred-address-types": "InternalIP",

		"proxy-client-cert-file":             secret("front-proxy.crt"),
		"proxy-client-key-file":              secret("front-proxy.key"),
		"requestheader-client-ca-file":       secret(aggregatorCA),
		"requestheader-allowed-names":        frontProxy,
		"requestheader-username-headers":     "X-Remote-User",
		"requestheader-group-headers":        "X-Remote-Group",
		"requestheader-extra-headers-prefix": "X-Remote-Extra-",
	}
}

func (k *Kubernetes) apiServerFiles() (rendered, error) {
	names, addresses := k.apiNames()
	server, err := k.serverPair(APIServer, names, addresses...)
	if err != nil {
		return rendered{}, err
	}
	etcdClient, err := clientPair(k.etcdCA, apiServerUser)
	if err != nil {
		return rendered{}, err
	}
	kubeletClient, err := clientPair(k.ca, apiServerUser)
	if err != nil {
		return rendered{}, err
	}
	proxyClient, err := clientPair(k.aggregatorCA, frontProxy)
	if err != nil {
		return rendered{}, err
	}
	secrets := k.options.Config.Secrets
	encryption, err := render("encryption.yaml.tmpl", struct{ Key string }{string(secrets.EncryptionKey)})
	if err != nil {
		return rendered{}, err
	}
	return rendered{
		secrets: map[string][]byte{
			caFile:                k.caCert(),
			serverCert:            server.Cert,
			serverKey:             server.Key,
			"etcd-ca.crt":         k.etcdCA.KeyPair().Cert,
			"etcd-client.crt":     etcdClient.Cert,
			"etcd-client.key":     etcdClient.Key,
			"kubelet-client.crt":  kubeletClient.Cert,
			"kubelet-client.key":  kubeletClient.Key,
			aggregatorCA:          k.aggregatorCA.KeyPair().Cert,
			"front-proxy.crt":     proxyClient.Cert,
			"front-proxy.key":     proxyClient.Key,
			"service-account.key": []byte(secrets.ServiceAccountKey),
			"encryption.yaml":     encryption,
		},
		config: map[string][]byte{
			"admission.yaml":      static("admission.yaml"),
			"audit.yaml":          static("audit.yaml"),
			"authentication.yaml": static("authentication.yaml"),
		},
	}, nil
}

const auditDir = "/var/log/kube-apiserver"

func (k *Kubernetes) makeAuditDir() error {
	owner, err := k.owner(APIServer)
	if err != nil {
		return err
	}
	return secretdir.Make(k.path(auditDir), owner)
}

// probeAPIServer tells the supervisor whether the API server works. Before its
// first success, what depends on it waits; after that, an etcd that is down is
// no reason to restart the API server.
func (k *Kubernetes) probeAPIServer(ctx context.Context) error {
	if k.ownReady.has() {
		return k.api.checkURL(ctx, k.own+"/livez?exclude=etcd")
	}
	if !k.serving.has() {
		// Listening comes long before ready on a first boot.
		if err := k.api.checkURL(ctx, k.own+"/version"); err != nil {
			return err
		}
		k.serving.reach()
	}
	if err := k.api.checkURL(ctx, k.own+"/readyz"); err != nil {
		return err
	}
	k.ownReady.reach()
	k.ready.reach()
	return nil
}

// OwnReady asks whether this node's own API server can be used.
func (k *Kubernetes) OwnReady(ctx context.Context) error {
	return k.api.checkURL(ctx, k.own+"/readyz")
}
