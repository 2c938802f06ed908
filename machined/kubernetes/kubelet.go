package kubernetes

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/keelson-os/keelson/machined/supervise"
	"github.com/keelson-os/keelson/pkg/pki"
	"github.com/keelson-os/keelson/pkg/secretdir"
)

// ShutdownBus is where kubelet hears of a shutdown and asks for a delay of it:
// machined serves logind there.
const ShutdownBus = "/run/keelson/logind/bus"

// kubeletHealthPort is kubelet's default.
const kubeletHealthPort = 10248

// The client certificate that kubelet renews by itself: a link, in a folder of
// its own, to a file with certificate and key (client-go's util/certificate).
const (
	rotatedDir  = "pki"
	currentCert = "kubelet-client-current.pem"
	initialCert = "kubelet-client-initial.pem"
)

// Reserved for the node's services, of which a control-plane node has more:
// about what they take on an idle node with some pods.
const (
	reservedCPU    = "100m"
	reservedMemory = "512Mi"
)

// kubelet starts as soon as the API server answers at all, long before it is
// ready on a first boot: node authorization needs none of the objects that are
// still being written then. Not earlier, though: its watches would back off
// for up to half a minute while nobody answers, and pods wait for those.
func (k *Kubernetes) kubelet() supervise.Spec {
	render := k.prepare(Kubelet, "root", k.kubeletFiles)
	return k.through(supervise.Spec{
		Name:        Kubelet,
		DependsOn:   []string{containerd},
		Gate:        k.serving.wait,
		GateMessage: "the Kubernetes API does not answer yet",
		Prepare: func(ctx context.Context) error {
			if err := render(ctx); err != nil {
				return err
			}
			return k.ensureKubeletClient(time.Now())
		},
		Path:            "/usr/bin/" + Kubelet,
		Args:            k.kubeletFlags().args(k.options.Config.Machine.Kubelet.ExtraArgs),
		Env:             []string{"DBUS_SYSTEM_BUS_ADDRESS=unix:path=" + ShutdownBus},
		AllCapabilities: true, // mounts, cgroups and namespaces of pods
		Delegate:        true,
		NoFile:          1 << 20,
		OOMScoreAdj:     -999,
		Health:          k.serverHealth(fmt.Sprintf("http://127.0.0.1:%d/healthz", kubeletHealthPort)),
		StopTimeout:     20 * time.Second,
	})
}

func (k *Kubernetes) kubeletFlags() flags {
	all := flags{
		"config":            k.config(Kubelet, "config.yaml"),
		"kubeconfig":        k.secrets(Kubelet, kubeconfigFile),
		"cert-dir":          k.secrets(Kubelet, rotatedDir),
		"hostname-override": k.options.Hostname,
		"node-ip":           k.options.NodeIP.String(),
	}
	if labels := k.options.Config.Machine.Kubelet.NodeLabels; len(labels) > 0 {
		var list []string
		for _, name := range slices.Sorted(maps.Keys(labels)) {
			list = append(list, name+"="+labels[name])
		}
		all["node-labels"] = strings.Join(list, ",")
	}
	return all
}

func (k *Kubernetes) kubeletFiles() (rendered, error) {
	server, err := k.kubeletServer()
	if err != nil {
		return rendered{}, err
	}
	current := k.secrets(Kubelet, rotatedDir, currentCert)
	access, err := k.localKubeconfig(k.nodeUser(), userAuth{CertFile: current, KeyFile: current})
	if err != nil {
		return rendered{}, err
	}
	grace, critical := k.shutdownGrace()
	config, err := render("kubelet.yaml.tmpl", map[string]string{
		"NodeIP":         k.options.NodeIP.String(),
		"Secrets":        k.secrets(Kubelet),
		"DNSDomain":      k.options.Config.Cluster.Network.DNSDomain,
		"DNSAddress":     DNSAddress,
		"ReservedCPU":    reservedCPU,
		"ReservedMemory": reservedMemory,
		"Grace":          grace.String(),
		"CriticalGrace":  critical.String(),
	})
	if err != nil {
		return rendered{}, err
	}
	return rendered{
		secrets: map[string][]byte{
			caFile:         k.caCert(),
			serverCert:     server.Cert,
			serverKey:      server.Key,
			kubeconfigFile: access,
		},
		config: map[string][]byte{"config.yaml": config},
	}, nil
}

// shutdownGrace is how long all pods may take to end with the node, and how much
// of it the critical ones have, after the others. kubelet counts in seconds and
// refuses anything but zero below one.
func (k *Kubernetes) shutdownGrace() (all, critical time.Duration) {
	all = k.options.Config.Machine.Kubelet.ShutdownGracePeriod.Truncate(time.Second)
	return all, (all / 3).Truncate(time.Second)
}

// nodeUser is the node's name in Kubernetes' authorization.
func (k *Kubernetes) nodeUser() string { return "system:node:" + k.options.Hostname }

// ensureKubeletClient puts a first client certificate where kubelet looks for
// its renewed ones, unless one is there that is still good: kubelet restarts
// must not undo its renewals.
func (k *Kubernetes) ensureKubeletClient(now time.Time) error {
	dir := k.secrets(Kubelet, rotatedDir)
	link := filepath.Join(dir, currentCert)
	text, err := os.ReadFile(link)
	if err == nil && isGood(text, now) {
		return nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("read kubelet's client certificate: %w", err)
	}
	pair, err := k.identity(pki.Request{
		CommonName: k.nodeUser(), Organizations: []string{"system:nodes"}, Client: true, Now: now, TTL: rotatedTTL,
	})
	if err != nil {
		return err
	}
	owner, err := k.owner("root")
	if err != nil {
		return err
	}
	err = secretdir.Write(dir, owner, map[string][]byte{initialCert: slices.Concat(pair.Cert, pair.Key)})
	if err != nil {
		return err
	}
	// client-go replaces links only.
	if err := os.Remove(link); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("replace kubelet's client certificate: %w", err)
	}
	if err := os.Symlink(filepath.Join(dir, initialCert), link); err != nil {
		return fmt.Errorf("place kubelet's client certificate: %w", err)
	}
	return nil
}

// isGood tells whether a certificate will be valid long enough for kubelet to
// renew it by itself.
func isGood(text []byte, now time.Time) bool {
	if !bytes.Contains(text, []byte("PRIVATE KEY")) {
		return false
	}
	cert, err := pki.ParseCert(text)
	return err == nil && now.Add(time.Hour).Before(cert.NotAfter)
}
