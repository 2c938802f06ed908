package kubernetes

import (
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

func TestMetricsCheck(t *testing.T) {
	for name, c := range map[string]struct {
		code  int
		body  string
		since time.Duration
		ok    bool
		want  string
	}{
		"served":           {200, `{}`, time.Hour, true, "served"},
		"it boots":         {404, `{"kind":"Status","message":"not found"}`, time.Minute, true, "no figures of this node yet"},
		"kubelet is mute":  {404, `{"kind":"Status","message":"not found"}`, time.Hour, false, "see osctl logs metrics-server and osctl logs kubelet"},
		"it does not run":  {503, "error trying to reach service: connection refused", time.Hour, false, "connection refused; pods run on"},
		"it was never up":  {503, "service unavailable\n", time.Hour, false, "service unavailable; pods run on"},
		"it is not served": {503, "service unavailable\n", time.Minute, true, "no figures of this node yet"},
	} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/apis/metrics.k8s.io/v1beta1/nodes/node-1" {
				t.Errorf("%s: asked %s", name, r.URL.Path)
			}
			w.WriteHeader(c.code)
			fmt.Fprint(w, c.body)
		}))
		k := testKubernetes(t, Options{Hostname: "node-1"})
		k.own, k.started = server.URL, time.Now().Add(-c.since)
		check := k.checkMetrics(t.Context())
		server.Close()
		if check.OK != c.ok || !strings.Contains(check.Message, c.want) {
			t.Errorf("%s: %t, %q, want %t, %q", name, check.OK, check.Message, c.ok, c.want)
		}
	}
}

// An API server must be able to verify who it finds by what the manifests say.
func TestMetricsServerIsWhoTheManifestsName(t *testing.T) {
	k := testKubernetes(t, Options{})
	objects := map[string]map[string]any{}
	for _, each := range k.manifests {
		objects[each.kind+" "+each.name] = each.object
	}
	spec := objects["APIService v1beta1.metrics.k8s.io"]["spec"].(map[string]any)
	service := spec["service"].(map[string]any)
	if k.metricsServerFlags()["secure-port"] != fmt.Sprint(service["port"]) {
		t.Errorf("it listens on %s, and is asked on %v", k.metricsServerFlags()["secure-port"], service["port"])
	}
	if _, skips := spec["insecureSkipTLSVerify"]; skips {
		t.Error("its certificate is not verified")
	}
	bundle, err := base64.StdEncoding.DecodeString(spec["caBundle"].(string))
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(bundle)
	files, err := k.metricsServerFiles()
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(files.secrets[serverCert])
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	name := fmt.Sprintf("%s.%s.svc", service["name"], service["namespace"]) // as kube-aggregator makes it
	if _, err := cert.Verify(x509.VerifyOptions{Roots: roots, DNSName: name}); err != nil {
		t.Error(err)
	}
	if objects["Service metrics-server"] == nil {
		t.Error("the Service is missing")
	}
}
