package kubernetes

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keelson-os/keelson/pkg/identity"
	"github.com/keelson-os/keelson/pkg/machineconfig"
	"github.com/keelson-os/keelson/pkg/pki"
	"go.yaml.in/yaml/v3"
)

func TestFlagsOfTheConfigWin(t *testing.T) {
	got := flags{"a": "1", "b": "2"}.args(map[string]string{"b": "3", "c": "4"})
	if want := []string{"--a=1", "--b=3", "--c=4"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestKubeconfigHoldsTheStrongestRole(t *testing.T) {
	k := testKubernetes(t, Options{})
	for _, c := range []struct {
		roles []string
		want  string
	}{
		{[]string{"os:reader", "os:admin"}, "keelson:admin"},
		{[]string{"os:operator", "os:reader"}, "keelson:operator"},
		{[]string{"os:etcd:backup", "os:reader"}, "keelson:reader"},
	} {
		text, err := k.Kubeconfig(t.Context(), "ada", c.roles, time.Now().Add(time.Hour))
		if err != nil {
			t.Fatal(err)
		}
		var doc struct {
			Clusters []struct{ Cluster struct{ Server string } }
			Users    []struct {
				User struct {
					Cert string `yaml:"client-certificate-data"`
				}
			}
		}
		if err := yaml.Unmarshal(text, &doc); err != nil {
			t.Fatal(err)
		}
		if doc.Clusters[0].Cluster.Server != "https://k8s.example.com:6443" {
			t.Errorf("server %q, want the cluster's endpoint", doc.Clusters[0].Cluster.Server)
		}
		raw, err := base64.StdEncoding.DecodeString(doc.Users[0].User.Cert)
		if err != nil {
			t.Fatal(err)
		}
		cert, err := pki.ParseCert(raw)
		if err != nil {
			t.Fatal(err)
		}
		if cert.Subject.CommonName != "ada" || !slices.Equal(cert.Subject.Organization, []string{c.want}) {
			t.Errorf("%q: certificate of %s", c.roles, cert.Subject)
		}
		if left := time.Until(cert.NotAfter); left > time.Hour || left < time.Hour-time.Minute {
			t.Errorf("%q: valid for %s, longer or shorter than the caller's own certificate", c.roles, left)
		}
	}
	if _, err := k.Kubeconfig(t.Context(), identity.APID, []string{identity.Admin}, time.Now().Add(time.Hour)); err == nil {
		t.Error("a kubeconfig was made under the name of a component")
	}
	if _, err := k.Kubeconfig(t.Context(), "ada", []string{identity.Admin}, time.Time{}); err == nil {
		t.Error("a kubeconfig was made for a caller without a certificate")
	}
	for _, roles := range [][]string{nil, {"os:etcd:backup"}, {"system:masters"}} {
		if _, err := k.Kubeconfig(t.Context(), "ada", roles, time.Now().Add(time.Hour)); !errors.Is(err, ErrNoGroup) {
			t.Errorf("%q: %v, want ErrNoGroup", roles, err)
		}
	}
}

func TestAPIServerIsKnownByEveryName(t *testing.T) {
	k := testKubernetes(t, Options{Hostname: "node-1"})
	k.options.Config.Cluster.ControlPlane.Addresses = []machineconfig.Host{"10.0.2.16"}
	files, err := k.apiServerFiles()
	if err != nil {
		t.Fatal(err)
	}
	cert, err := pki.ParseCert(files.secrets[serverCert])
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{
		"127.0.0.1", "localhost", "node-1", "10.0.2.15", "10.0.2.16", "10.96.0.1", "k8s.example.com", "kubernetes.default.svc.cluster.local",
	} {
		if err := cert.VerifyHostname(name); err != nil {
			t.Error(err)
		}
	}
}

func TestKubeletKeepsWhatItRenewed(t *testing.T) {
	k := testKubernetes(t, Options{Root: t.TempDir(), Hostname: "node-1"})
	now := time.Now()
	link := k.secrets(Kubelet, rotatedDir, currentCert)
	ensure := func(now time.Time) string {
		t.Helper()
		if err := k.ensureKubeletClient(now); err != nil {
			t.Fatal(err)
		}
		// client-go insists on a link.
		if info, err := os.Lstat(link); err != nil || info.Mode()&os.ModeSymlink == 0 {
			t.Fatalf("%s is no link: %v, %v", link, info, err)
		}
		text, err := os.ReadFile(link)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	first := ensure(now)
	if again := ensure(now.Add(time.Hour)); again != first {
		t.Error("a certificate that is still good was replaced")
	}
	renewed := filepath.Join(filepath.Dir(link), "kubelet-client-2026.pem")
	pair, err := k.ca.Issue(pki.Request{CommonName: "system:node:node-1", Client: true, TTL: 3 * rotatedTTL})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.WriteFile(renewed, slices.Concat(pair.Cert, pair.Key), 0o600), os.Remove(link), os.Symlink(renewed, link)); err != nil {
		t.Fatal(err)
	}
	if got := ensure(now.Add(2 * rotatedTTL)); got != string(pair.Cert)+string(pair.Key) {
		t.Error("a renewed certificate was replaced")
	}
	if got := ensure(now.Add(4 * rotatedTTL)); got == string(pair.Cert)+string(pair.Key) {
		t.Error("an expired certificate was kept")
	}
}

func TestMilestone(t *testing.T) {
	m := newMilestone()
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for range 2 {
		if m.has() || !errors.Is(m.wait(ended), context.Canceled) {
			t.Fatal("reached before it was")
		}
		waited := make(chan error, 1)
		go func() { waited <- m.wait(t.Context()) }()
		m.reach()
		m.reach()
		if err := <-waited; err != nil || !m.has() {
			t.Fatalf("not reached: %v", err)
		}
		m.lose()
		m.lose()
	}
}

func TestWatchNodeTellsChangesOnly(t *testing.T) {
	const object = `{"metadata":{"name":"%s","labels":{"node-role.kubernetes.io/control-plane":""}},"status":{` +
		`"addresses":[{"type":"InternalIP","address":"10.0.0.5"}],"conditions":[{"type":"Ready","status":"%s","message":"%s","lastHeartbeatTime":"%s"}]}}`
	const now, lastBoot = "2999-01-01T00:00:00Z", "1999-01-01T00:00:00Z"
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("watch") != "true" {
			fmt.Fprintf(w, `{"metadata":{"resourceVersion":"7"},"items":[`+object+`,`+object+`]}`,
				"node-1", "True", "fine", lastBoot, "node-2", "True", "fine", lastBoot)
			return
		}
		if r.URL.Query().Get("resourceVersion") != "7" {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		event := func(kind, name, ready, message, at string) {
			fmt.Fprintf(w, `{"type":"%s","object":`+object+`}`, kind, name, ready, message, at)
		}
		event("MODIFIED", "node-1", "False", "no network", now)
		event("MODIFIED", "node-1", "False", "no network", now)
		event("MODIFIED", "node-1", "True", "fine", now)
		event("DELETED", "node-2", "True", "fine", now)
		event("ADDED", "node-3", "False", "new", now)
		event("DELETED", "node-1", "True", "fine", now)
		fmt.Fprint(w, `{"type":"ERROR","object":{"kind":"Status","message":"too old"}}`)
	}))
	defer server.Close()
	file := filepath.Join(t.TempDir(), "nodes.json")
	k := testKubernetes(t, Options{Hostname: "node-1", NodesFile: file})
	k.api = &client{base: server.URL, http: server.Client(), minted: time.Now()}
	var got []Node
	err := k.listAndWatch(t.Context(), k.nodeCollection(t.Context(), func(node Node) { got = append(got, node) }))
	if err == nil || !strings.Contains(err.Error(), "too old") {
		t.Errorf("the watch ended with %v, want the server's words", err)
	}
	want := []Node{{Registered: true, Message: "kubelet has not reported yet"}, {Registered: true, Message: "no network"}, {Registered: true, Ready: true, Message: "fine"}, {}}
	if !slices.Equal(got, want) {
		t.Errorf("told %+v, want %+v", got, want)
	}
	after := testKubernetes(t, Options{Hostname: "node-1", NodesFile: file})
	after.readNodes()
	for _, nodes := range [][]ClusterNode{k.Nodes(), after.Nodes()} {
		if len(nodes) != 1 || nodes[0].Name != "node-3" || nodes[0].Ready || !nodes[0].ControlPlane || nodes[0].Addresses[0].String() != "10.0.0.5" {
			t.Errorf("nodes %+v", nodes)
		}
	}
}

// What keeps a node cordoned keeps nobody from knowing the others.
func TestNodesAreKnownWhenThisOneCannotBeUncordoned(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/api/v1/nodes" {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		if r.URL.Query().Get("limit") == "" {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		if r.URL.Query().Get("continue") == "" {
			fmt.Fprint(w, `{"metadata":{"resourceVersion":"7","continue":"more"},"items":[{"metadata":{"name":"node-1",
				"labels":{"node-role.kubernetes.io/control-plane":""},"annotations":{"keelson.dev/cordoned-by":"shutdown"}},
				"status":{"conditions":[{"type":"Ready","status":"True","lastHeartbeatTime":"2999-01-01T00:00:00Z"}]}}]}`)
			return
		}
		fmt.Fprint(w, `{"metadata":{"resourceVersion":"7"},"items":[{"metadata":{"name":"node-2"}}]}`)
	}))
	defer server.Close()
	k := testKubernetes(t, Options{Hostname: "node-1"})
	k.api = &client{base: server.URL, http: server.Client(), minted: time.Now()}
	var got Node
	err := k.listAndWatch(t.Context(), k.nodeCollection(t.Context(), func(node Node) { got = node }))
	var status *statusError
	if !errors.As(err, &status) || status.code != http.StatusForbidden {
		t.Errorf("%v: want a watch that ends, so that it is tried again", err)
	}
	if nodes := k.Nodes(); len(nodes) != 2 || nodes[1].Name != "node-2" || !got.Ready {
		t.Errorf("nodes %+v, this one %+v", nodes, got)
	}
}

func TestTheControlPlaneIsFollowed(t *testing.T) {
	const slice = `{"metadata":{"name":"kubernetes"},"endpoints":[{"addresses":["10.0.0.6"]},{"addresses":["%s"],"conditions":{"ready":%t}}],"ports":[{"port":6443}]}`
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("fieldSelector") != "metadata.name=kubernetes" {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		if r.URL.Query().Get("watch") != "true" {
			fmt.Fprintf(w, `{"metadata":{"resourceVersion":"7"},"items":[`+slice+`]}`, "10.0.0.5", true)
			return
		}
		fmt.Fprintf(w, `{"type":"MODIFIED","object":`+slice+`}`, "10.0.0.7", false)
		fmt.Fprintf(w, `{"type":"DELETED","object":`+slice+`}`, "10.0.0.7", false)
	}))
	defer server.Close()
	k := testKubernetes(t, Options{})
	k.api = &client{base: server.URL, http: server.Client(), minted: time.Now()}
	k.serving.reach()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var got []string
	k.WatchControlPlane(ctx, func(addresses []netip.AddrPort) {
		got = append(got, fmt.Sprint(addresses))
		if len(got) == 3 { // the second watch begins
			cancel()
		}
	})
	want := []string{"[10.0.0.5:6443 10.0.0.6:6443]", "[10.0.0.6:6443]", "[10.0.0.5:6443 10.0.0.6:6443]"}
	if !slices.Equal(got, want) {
		t.Errorf("told %v, want %v", got, want)
	}
}

func TestHealthSaysWhatToDo(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusInternalServerError)
		fmt.Fprint(w, "[+]ping ok\n[-]etcd failed: reason withheld\n[-]poststarthook/rbac/bootstrap-roles failed: reason withheld\nreadyz check failed\n")
	}))
	defer server.Close()
	k := testKubernetes(t, Options{Hostname: "node-1", Root: t.TempDir()})
	k.own, k.started = server.URL, time.Now().Add(-time.Hour)
	want := map[string]string{
		APIServer:     "not ready: etcd, rbac/bootstrap-roles; see osctl logs kube-apiserver",
		"node Ready":  "node-1 has not joined the cluster; see osctl logs kubelet",
		"manifests":   errNotYet.Error(),
		"pod network": "it was not set up yet; see osctl logs flannel",
		"metrics":     "not ready: etcd, rbac/bootstrap-roles; pods run on, kubectl top and autoscalers do not work here: see osctl logs metrics-server",
	}
	checks := k.Health(t.Context())
	for _, check := range checks {
		if check.OK || check.Message != want[check.Name] {
			t.Errorf("%s: %t, %q, want %q", check.Name, check.OK, check.Message, want[check.Name])
		}
	}
	if len(checks) != len(want) {
		t.Errorf("%d checks, want %d", len(checks), len(want))
	}
}

func TestNewNamesTheSecretThatIsMissing(t *testing.T) {
	k := testKubernetes(t, Options{})
	options := k.options
	options.Config.Secrets.EtcdCA.Key = ""
	if _, err := New(options); err == nil || !strings.Contains(err.Error(), "secrets.etcdCA") {
		t.Errorf("got %v, want the field's name", err)
	}
	options.Config.Machine.Type = machineconfig.Worker
	if _, err := New(options); err == nil || !strings.Contains(err.Error(), "certificates") {
		t.Errorf("a worker without certificates: %v", err)
	}
}

// Servers check at every request whether the client's certificate has expired,
// and the connections of probes are never idle long enough to be closed.
func TestConnectionsDoNotOutliveTheCertificate(t *testing.T) {
	api := testKubernetes(t, Options{}).api
	began := time.Now()
	connections := func(after time.Duration) *http.Client {
		t.Helper()
		made, err := api.connections(began.Add(after))
		if err != nil {
			t.Fatal(err)
		}
		cert := made.Transport.(*http.Transport).TLSClientConfig.Certificates[0].Leaf
		if left := cert.NotAfter.Sub(began.Add(after)); left < time.Hour {
			t.Errorf("after %s the certificate is valid for %s more", after, left)
		}
		return made
	}
	first := connections(0)
	if connections(machinedRenew-time.Minute) != first {
		t.Error("connections were made anew long before their certificate expires")
	}
	if connections(machinedRenew+time.Minute) == first {
		t.Error("connections are kept until their certificate expires")
	}
}
