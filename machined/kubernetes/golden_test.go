package kubernetes

import (
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/keelson-os/keelson/pkg/machineconfig"
)

var update = flag.Bool("update", false, "write the golden files anew")

// golden compares text with a file of testdata.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("differs from %s (go test -update writes it anew):\n%s", path, diff)
	}
}

func goldenNode(t *testing.T) *Kubernetes {
	t.Helper()
	k := testKubernetes(t, Options{
		Hostname: "node-1", NodeIP: netip.MustParseAddr("10.0.2.15"),
		Nameservers: []netip.Addr{netip.MustParseAddr("10.0.2.3"), netip.MustParseAddr("fd00::3")},
	})
	config := k.options.Config
	config.Machine.Kubelet.NodeLabels = map[string]string{"example.com/rack": "7", "example.com/disk": "fast"}
	config.Machine.Kubelet.ExtraArgs = map[string]string{"v": "4"}
	config.Cluster.APIServer = machineconfig.Component{ExtraArgs: map[string]string{"profiling": "true", "event-ttl": "2h"}}
	return k
}

// TestServices shows who runs as whom, with what rights, after what, and with
// which flags.
func TestServices(t *testing.T) {
	var text strings.Builder
	for _, spec := range goldenNode(t).Services() {
		user := spec.User
		if user == "" {
			user = "root"
		}
		rights := strings.Join(spec.Capabilities, " ")
		if spec.AllCapabilities {
			rights = "all"
		}
		if rights == "" {
			rights = "none"
		}
		fmt.Fprintf(&text, "%s\n  program: %s\n  user: %s\n  capabilities: %s\n  after: %s\n", spec.Name, spec.Path, user, rights, strings.Join(spec.DependsOn, " "))
		if spec.StopsBefore != nil {
			fmt.Fprintf(&text, "  stops before: %s\n", strings.Join(spec.StopsBefore, " "))
		}
		if spec.GateMessage != "" {
			fmt.Fprintf(&text, "  waits while: %s\n", spec.GateMessage)
		}
		for _, each := range spec.Env {
			fmt.Fprintf(&text, "  env: %s\n", each)
		}
		for _, each := range spec.Args {
			fmt.Fprintf(&text, "  %s\n", each)
		}
		text.WriteString("\n")
	}
	golden(t, "services.txt", []byte(text.String()))
}

func TestConfigFiles(t *testing.T) {
	k := goldenNode(t)
	for file, render := range map[string]func() (rendered, error){
		"kubelet-config.yaml":    k.kubeletFiles,
		"kube-proxy-config.yaml": k.kubeProxyFiles,
		"flannel-network.json":   k.flannelFiles,
		"coredns-Corefile":       k.coreDNSFiles,
	} {
		files, err := render()
		if err != nil {
			t.Fatal(err)
		}
		for _, content := range files.config {
			golden(t, file, content)
		}
	}
	k.options.Nameservers = nil
	files, err := k.coreDNSFiles()
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "coredns-Corefile-alone", files.config["Corefile"])
}

func TestEveryServiceHasItsSecretsAndNoMore(t *testing.T) {
	k := goldenNode(t)
	for service, want := range map[string][]string{
		APIServer: {"aggregator-ca.crt", "ca.crt", "encryption.yaml", "etcd-ca.crt", "etcd-client.crt", "etcd-client.key", "front-proxy.crt",
			"front-proxy.key", "kubelet-client.crt", "kubelet-client.key", "server.crt", "server.key", "service-account.key"},
		ControllerManager: {"ca.crt", "ca.key", "kubeconfig", "server.crt", "server.key", "service-account.key"},
		Scheduler:         {"ca.crt", "kubeconfig", "server.crt", "server.key"},
		Kubelet:           {"ca.crt", "kubeconfig", "server.crt", "server.key"},
		KubeProxy:         {"client.crt", "client.key", "kubeconfig"},
		Flannel:           {"client.crt", "client.key", "kubeconfig"},
		CoreDNS:           {"client.crt", "client.key", "kubeconfig"},
		MetricsServer:     {"aggregator-ca.crt", "kubeconfig", "server.crt", "server.key"},
		LocalPath:         {"client.crt", "client.key", "kubeconfig"},
	} {
		files, err := map[string]func() (rendered, error){
			APIServer: k.apiServerFiles, ControllerManager: k.controllerManagerFiles, Scheduler: k.schedulerFiles, Kubelet: k.kubeletFiles,
			KubeProxy: k.kubeProxyFiles, Flannel: k.flannelFiles, CoreDNS: k.coreDNSFiles, MetricsServer: k.metricsServerFiles, LocalPath: k.localPathFiles,
		}[service]()
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for name := range files.secrets {
			got = append(got, name)
		}
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("%s gets %q, want %q", service, got, want)
		}
		for name, content := range files.config {
			if strings.Contains(string(content), "PRIVATE") || strings.Contains(string(content), string(k.options.Config.Secrets.EncryptionKey)) {
				t.Errorf("%s: a secret stands in config file %s", service, name)
			}
		}
	}
}
