package kubernetes

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

const metricsAPI = "/apis/metrics.k8s.io/v1beta1"

// standInKubelet is as much of kubelet as the metrics server asks: it proves who
// it is, wants the same, and tells of a node and of one pod that keep a CPU each busy.
type standInKubelet struct {
	began time.Time
	pod   atomic.Value // a name in namespace default
	asked atomic.Value // by whom last
	port  int
}

func newStandInKubelet(n *native) *standInKubelet {
	pair, err := n.k.serverPair("kubelet", nil)
	if err != nil {
		n.t.Fatal(err)
	}
	cert, err := tls.X509KeyPair(pair.Cert, pair.Key)
	if err != nil {
		n.t.Fatal(err)
	}
	clients := x509.NewCertPool()
	clients.AddCert(n.k.ca.Certificate())
	kubelet := &standInKubelet{began: time.Now().Add(-time.Hour)}
	server := httptest.NewUnstartedServer(http.HandlerFunc(kubelet.serve))
	server.TLS = &tls.Config{
		Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS13,
		ClientCAs: clients, ClientAuth: tls.RequireAndVerifyClientCert,
	}
	server.StartTLS()
	n.t.Cleanup(server.Close)
	kubelet.port = server.Listener.Addr().(*net.TCPAddr).Port
	return kubelet
}

func (s *standInKubelet) serve(w http.ResponseWriter, r *http.Request) {
	s.asked.Store(r.TLS.PeerCertificates[0].Subject.CommonName + " " + r.URL.Path)
	now := time.Now()
	busy, ms := now.Sub(s.began).Seconds(), now.UnixMilli()
	fmt.Fprintf(w, "node_cpu_usage_seconds_total %f %d\nnode_memory_working_set_bytes 1e+08 %d\n", busy, ms, ms)
	if pod, ok := s.pod.Load().(string); ok {
		labels := `{container="c",namespace="default",pod="` + pod + `"}`
		fmt.Fprintf(w, "container_start_time_seconds%s %d\n", labels, s.began.Unix())
		fmt.Fprintf(w, "container_cpu_usage_seconds_total%s %f %d\ncontainer_memory_working_set_bytes%s 1e+07 %d\n", labels, busy, ms, labels, ms)
	}
}

// testMetrics is of the API behind this node's API server: who gets figures, what
// an autoscaler makes of them, and what is left when the metrics server is not there.
func (n *native) testMetrics(t *testing.T) {
	kubelet := newStandInKubelet(n)
	node := "/api/v1/nodes/" + n.k.options.Hostname
	n.patch(t, node+"/status", map[string]any{"status": map[string]any{
		"addresses":       []any{map[string]any{"type": "InternalIP", "address": "127.0.0.1"}},
		"daemonEndpoints": map[string]any{"kubeletEndpoint": map[string]any{"Port": kubelet.port}},
	}})
	kubelet.pod.Store(n.busyPod(t))
	spec := n.k.metricsServer()
	n.start(spec)
	n.healthy(spec)

	n.eventually(t, "this node's figures are served", func() error {
		if check := n.k.checkMetrics(t.Context()); check.Message != "served" {
			return fmt.Errorf("%s; its log ends:\n%s", check.Message, n.processes[MetricsServer].log.tail())
		}
		return nil
	})
	if asked, want := kubelet.asked.Load(), metricsUser+" /metrics/resource"; asked != want {
		t.Errorf("kubelet was asked by and for %q, want %q", asked, want)
	}
	t.Run("people", n.testMetricsReaders)
	t.Run("rights", n.testMetricsRights)
	t.Run("autoscaler", n.testAutoscaler)
	t.Logf("the metrics server's memory: %s", memory(t, n.processes[MetricsServer]))
	t.Run("contradiction", n.testMetricsContradiction)
	t.Run("down", n.testMetricsDown)
}

func (n *native) patch(t *testing.T, path string, object map[string]any) {
	t.Helper()
	if err := n.k.api.send(t.Context(), http.MethodPatch, path, "application/strategic-merge-patch+json", object); err != nil {
		t.Fatal(err)
	}
}

// busyPod makes a Deployment and says of its pod that it runs, as kubelet would.
func (n *native) busyPod(t *testing.T) string {
	t.Helper()
	labels := map[string]any{"app": "busy"}
	container := map[string]any{"name": "c", "image": "x", "resources": map[string]any{"requests": map[string]any{"cpu": "100m"}}}
	if err := n.k.api.send(t.Context(), http.MethodPost, "/apis/apps/v1/namespaces/default/deployments", "application/json", map[string]any{
		"apiVersion": "apps/v1", "kind": "Deployment", "metadata": map[string]any{"name": "busy"},
		"spec": map[string]any{
			"selector": map[string]any{"matchLabels": labels},
			"template": map[string]any{"metadata": map[string]any{"labels": labels}, "spec": map[string]any{"containers": []any{container}}},
		},
	}); err != nil {
		t.Fatal(err)
	}
	const pods = "/api/v1/namespaces/default/pods"
	var name string
	n.eventually(t, "the pod is made", func() error {
		var list struct {
			Items []struct{ Metadata struct{ Name string } }
		}
		if err := n.k.api.get(t.Context(), pods+"?labelSelector=app%3Dbusy", &list); err != nil || len(list.Items) == 0 {
			return fmt.Errorf("%d pods, %w", len(list.Items), err)
		}
		name = list.Items[0].Metadata.Name
		return nil
	})
	// Old enough for an autoscaler, which leaves pods that start out.
	since := time.Now().Add(-time.Hour).UTC().Format(time.RFC3339)
	n.patch(t, pods+"/"+name+"/status", map[string]any{"status": map[string]any{
		"phase": "Running", "startTime": since,
		"conditions": []any{map[string]any{"type": "Ready", "status": "True", "lastTransitionTime": since}},
	}})
	return name
}

func (n *native) testMetricsReaders(t *testing.T) {
	pods := metricsAPI + "/namespaces/default/pods"
	for role, client := range map[string]*client{
		"os:admin": n.person(t, "os:admin"), "os:operator": n.person(t, "os:operator"), "os:reader": n.person(t, "os:reader"),
	} {
		for _, path := range []string{metricsAPI, metricsAPI + "/nodes", pods} {
			if err := client.check(t.Context(), path); err != nil {
				t.Errorf("%s: %v", role, err)
			}
		}
	}
	access, err := n.k.serviceKubeconfig("keelson:coredns")
	if err != nil {
		t.Fatal(err)
	}
	if got := code(n.as(t, access).check(t.Context(), pods)); got != 403 {
		t.Errorf("one without the right: %d, want 403", got)
	}
	// Only API servers are believed who it is that asks: past them even machined is nobody.
	direct := fmt.Sprintf("https://127.0.0.1:%d", metricsPort)
	if got := code(n.k.api.checkURL(t.Context(), direct+pods)); got != 403 {
		t.Errorf("machined, past the API server: %d, want 403", got)
	}
	var list struct {
		Items []struct {
			Containers []struct{ Usage struct{ CPU, Memory string } }
		}
	}
	n.eventually(t, "the pod's figures are served", func() error {
		if err := n.k.api.get(t.Context(), pods, &list); err != nil || len(list.Items) == 0 {
			return fmt.Errorf("%d pods, %w", len(list.Items), err)
		}
		return nil
	})
	usage := list.Items[0].Containers[0].Usage
	if !regexp.MustCompile(`^(99|100)\d{7}n$|^1$`).MatchString(usage.CPU) || usage.Memory != "10000000" {
		t.Errorf("the pod uses %+v, want a CPU and 10 MB", usage)
	}
}

// testMetricsRights asks what the metrics server may do, and whether that is all.
func (n *native) testMetricsRights(t *testing.T) {
	for attributes, want := range map[string]bool{
		"get nodes metrics": true, "list nodes ": true, "watch pods ": true, "get nodes proxy": false, "get nodes log": false,
		"list secrets ": false, "get pods log": false, "get pods exec": false, "list configmaps ": false,
	} {
		part := strings.Split(attributes, " ")
		var review struct{ Status struct{ Allowed bool } }
		question, err := json.Marshal(map[string]any{
			"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview",
			"spec": map[string]any{
				"user":               metricsUser,
				"resourceAttributes": map[string]any{"verb": part[0], "resource": part[1], "subresource": part[2]},
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		const path = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
		body, err := n.k.api.do(t.Context(), http.MethodPost, n.k.api.base+path, "application/json", question)
		if err != nil {
			t.Fatal(err)
		}
		err = json.NewDecoder(body).Decode(&review)
		_ = body.Close()
		if err != nil {
			t.Fatal(err)
		}
		if review.Status.Allowed != want {
			t.Errorf("%s: %t, want %t", attributes, review.Status.Allowed, want)
		}
	}
}

func (n *native) testAutoscaler(t *testing.T) {
	began := time.Now()
	err := n.k.api.send(t.Context(), http.MethodPost, "/apis/autoscaling/v2/namespaces/default/horizontalpodautoscalers", "application/json", map[string]any{
		"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": map[string]any{"name": "busy"},
		"spec": map[string]any{
			"scaleTargetRef": map[string]any{"apiVersion": "apps/v1", "kind": "Deployment", "name": "busy"},
			"maxReplicas":    3,
			"metrics": []any{map[string]any{"type": "Resource", "resource": map[string]any{
				"name": "cpu", "target": map[string]any{"type": "Utilization", "averageUtilization": 50},
			}}},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	n.eventually(t, "the Deployment is scaled", func() error {
		var deployment struct{ Spec struct{ Replicas int } }
		if err := n.k.api.get(t.Context(), "/apis/apps/v1/namespaces/default/deployments/busy", &deployment); err != nil {
			return err
		}
		if deployment.Spec.Replicas != 3 {
			return fmt.Errorf("%d replicas, want 3", deployment.Spec.Replicas)
		}
		return nil
	})
	t.Logf("scaled from 1 to 3 after %s", time.Since(began).Round(time.Second))
}

const metricsService = "/apis/apiregistration.k8s.io/v1/apiservices/v1beta1.metrics.k8s.io"

// availability is the metrics API's status, and the version of the object.
func (n *native) availability(t *testing.T) (status, version string) {
	t.Helper()
	var object struct {
		Metadata struct{ ResourceVersion string }
		Status   struct {
			Conditions []struct{ Type, Status string }
		}
	}
	if err := n.k.api.get(t.Context(), metricsService, &object); err != nil {
		t.Fatal(err)
	}
	for _, each := range object.Status.Conditions {
		status += each.Type + " " + each.Status
	}
	return status, object.Metadata.ResourceVersion
}

// findsOut waits until an API server wanted to say that the API fails.
func (n *native) findsOut(t *testing.T, name string) {
	t.Helper()
	n.eventually(t, name+" finds out", func() error {
		if !strings.Contains(n.processes[name].log.all(), "no answer on this node is no reason") {
			return errors.New("its log does not say so")
		}
		return nil
	})
	if status, _ := n.availability(t); status != "Available True" {
		t.Errorf("the status is %q, want Available as before", status)
	}
}

// testMetricsContradiction is of two API servers, one of which gets no answer: without
// the policy they write the status as fast as they can, one True and the other False.
func (n *native) testMetricsContradiction(t *testing.T) {
	_, before := n.availability(t)
	options := n.k.options
	options.APIPort, options.Root = freePort(t), t.TempDir()
	other, err := New(options)
	if err != nil {
		t.Fatal(err)
	}
	spec := other.apiServer()
	spec.Name = "second/" + APIServer
	// Makes it look for endpoints, which the Service has none of.
	spec.Args = append(spec.Args, "--enable-aggregator-routing=true")
	n.start(spec)
	n.healthy(spec)
	n.findsOut(t, spec.Name)
	if _, after := n.availability(t); after != before {
		t.Errorf("the object was written: version %s, was %s", after, before)
	}
	n.kill(n.processes[spec.Name])
}

// testMetricsDown is of a metrics server that is not there while its API server is.
func (n *native) testMetricsDown(t *testing.T) {
	n.kill(n.processes[MetricsServer])
	// A change makes the API server look at once, instead of in half a minute.
	n.patch(t, metricsService, map[string]any{"metadata": map[string]any{"annotations": map[string]any{"test": "look"}}})
	n.findsOut(t, APIServer)
	err := n.k.api.check(t.Context(), metricsAPI+"/nodes/"+n.k.options.Hostname)
	if check := metricsCheck(err, metricsGrace); code(err) != 503 || check.OK || !strings.Contains(check.Message, "refused; pods run on") {
		t.Errorf("the API answers %d, and the check says %t, %q", code(err), check.OK, check.Message)
	}
	n.start(n.k.metricsServer())
	n.healthy(n.k.metricsServer())
	n.eventually(t, "the figures are back", func() error {
		return n.k.api.check(t.Context(), metricsAPI+"/nodes/"+n.k.options.Hostname)
	})
}

// memory reads what a process takes, and what of it nothing else shares.
func memory(t *testing.T, p *process) string {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	lines := regexp.MustCompile(`(?m)^(VmRSS|RssAnon):\s+(.*)$`).FindAllString(string(text), -1)
	return strings.Join(lines, ", ")
}
