package main

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
)

// fewKinds is as much of the Kubernetes API as describe and wait use: objects by
// their paths, and lists of them.
type fewKinds map[string]string

func (objects fewKinds) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	resource := func(name, singular, kind string) string {
		return `{"name":"` + name + `","singularName":"` + singular + `","namespaced":true,"kind":"` + kind + `","verbs":["get","list","watch"]}`
	}
	list := func(group string, resources ...string) string {
		return `{"kind":"APIResourceList","groupVersion":"` + group + `","resources":[` + strings.Join(resources, ",") + `]}`
	}
	discovery := map[string]string{
		"/version": `{"gitVersion":"v1.2.3"}`,
		"/api":     `{"kind":"APIVersions","versions":["v1"]}`,
		"/apis": `{"kind":"APIGroupList","apiVersion":"v1","groups":[{"name":"apps",
			"versions":[{"groupVersion":"apps/v1","version":"v1"}],"preferredVersion":{"groupVersion":"apps/v1","version":"v1"}}]}`,
		"/api/v1":       list("v1", resource("pods", "pod", "Pod"), resource("services", "service", "Service")),
		"/apis/apps/v1": list("apps/v1", resource("deployments", "deployment", "Deployment")),
	}
	if answer, ok := discovery[r.URL.Path]; ok {
		_, _ = io.WriteString(w, answer)
		return
	}
	if answer, ok := objects[r.URL.Path]; ok {
		_, _ = io.WriteString(w, answer)
		return
	}
	if r.URL.Query().Get("watch") != "" {
		w.(http.Flusher).Flush()
		<-r.Context().Done()
		return
	}
	items := []json.RawMessage{}
	kind := "EventList"
	for path, object := range objects {
		if name, below := strings.CutPrefix(path, r.URL.Path+"/"); below && !strings.Contains(name, "/") {
			items = append(items, json.RawMessage(object))
			var head struct{ Kind string }
			_ = json.Unmarshal([]byte(object), &head)
			kind = head.Kind + "List"
		}
	}
	version := "v1"
	if strings.HasPrefix(r.URL.Path, "/apis/apps/") {
		version = "apps/v1"
	}
	_ = json.NewEncoder(w).Encode(map[string]any{"kind": kind, "apiVersion": version, "metadata": map[string]any{"resourceVersion": "1"}, "items": items})
}

// A Deployment that a quota lets have no pod.
var noPods = fewKinds{
	"/apis/apps/v1/namespaces/default/deployments/web": `{"kind":"Deployment","apiVersion":"apps/v1",
		"metadata":{"name":"web","namespace":"default","uid":"d","generation":1},
		"spec":{"replicas":3,"selector":{"matchLabels":{"app":"web"}},"template":{"metadata":{"labels":{"app":"web"}}}},
		"status":{"observedGeneration":1}}`,
	"/apis/apps/v1/namespaces/default/replicasets/web-5d": `{"kind":"ReplicaSet","apiVersion":"apps/v1",
		"metadata":{"name":"web-5d","namespace":"default","uid":"r","labels":{"app":"web"},
			"ownerReferences":[{"apiVersion":"apps/v1","kind":"Deployment","name":"web","uid":"d","controller":true}]},
		"spec":{"replicas":3,"selector":{"matchLabels":{"app":"web"}},"template":{"metadata":{"labels":{"app":"web"}}}}}`,
	"/api/v1/namespaces/default/events/e": `{"kind":"Event","apiVersion":"v1","metadata":{"name":"e","namespace":"default"},
		"involvedObject":{"kind":"ReplicaSet","name":"web-5d","uid":"r"},"type":"Warning","reason":"FailedCreate",
		"message":"Error creating: pods \"web-5d-x7k2p\" is forbidden: exceeded quota: small","lastTimestamp":"2026-11-20T12:00:00Z"}`,
}

const whyNoPods = "deployment web: 3 of its 3 pods cannot be created: exceeded quota: small"

func TestDescribeSaysWhyThereAreNoPods(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	harness, node := newWorkloadHarness(t)
	kubernetesBehind(t, node, noPods)
	if code := harness.run(t, "describe", "deployment", "web"); code != exitOK || !strings.HasSuffix(harness.out.String(), "Why it does not run:\n  "+whyNoPods+"\n") {
		t.Errorf("exit code %d: %s%s", code, harness.out, harness.err)
	}
}

func TestKubectlNamesTheNearestResources(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	harness, node := newWorkloadHarness(t)
	kubernetesBehind(t, node, noPods)
	for _, args := range [][]string{
		{"describe", "deploymnet", "web"}, {"label", "deploymnet", "web", "a=b"}, {"scale", "deploymnet/web", "--replicas=1"},
		{"wait", "deploymnet/web", "--for=create"},
	} {
		harness.fails(t, exitError, []string{`the server doesn't have a resource type "deploymnet"; is it one of: deployment, deployments` + "\n"}, args...)
	}
	harness.fails(t, exitError, []string{`resource type "unicorns"` + "\n"}, "describe", "unicorns")
}

// Though it is over before the first look.
func TestWaitInVainSaysWhatFor(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	harness, node := newWorkloadHarness(t)
	kubernetesBehind(t, node, noPods)
	harness.fails(t, exitError, []string{whyNoPods + "\n", "timed out waiting for the condition"},
		"wait", "deployment/web", "--for=condition=Available", "--timeout=1s")
	kubernetesBehind(t, node, fewKinds{"/api/v1/namespaces/default/pods/slow": `{"kind":"Pod","apiVersion":"v1",
		"metadata":{"name":"slow","namespace":"default"},"spec":{"nodeName":"n"},"status":{"phase":"Pending"}}`,
		"/api/v1/namespaces/default/events/e": `{"kind":"Event","apiVersion":"v1","metadata":{"name":"e","namespace":"default"},
			"type":"Normal","reason":"Pulling","message":"Pulling image shop/web:2"}`})
	harness.fails(t, exitError, []string{"waiting for pod slow (Pending; Pulling image shop/web:2)\n", "timed out waiting for the condition"},
		"wait", "pod/slow", "--for=condition=Ready", "--timeout=1s")
}
