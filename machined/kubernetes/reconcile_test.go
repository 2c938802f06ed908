package kubernetes

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"path"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestCovers(t *testing.T) {
	for name, c := range map[string]struct {
		live, wanted string
		want         bool
	}{
		"the same":              {`{"a":[{"b":"c"}]}`, `{"a":[{"b":"c"}]}`, true},
		"more in an object":     {`{"a":{"b":"c","d":"e"},"f":1}`, `{"a":{"b":"c"}}`, true},
		"more in a list":        {`{"a":["b","c"]}`, `{"a":["b"]}`, false},
		"less in a list":        {`{"a":["b"]}`, `{"a":["b","c"]}`, false},
		"another value":         {`{"a":"b"}`, `{"a":"c"}`, false},
		"another type":          {`{"a":{"b":"c"}}`, `{"a":"b"}`, false},
		"an object for a list":  {`{"a":{}}`, `{"a":[]}`, false},
		"missing":               {`{}`, `{"a":"b"}`, false},
		"nothing there at all":  {`null`, `{"a":"b"}`, false},
		"another order of list": {`{"a":["b","c"]}`, `{"a":["c","b"]}`, false},
	} {
		var live, wanted any
		if err := json.Unmarshal([]byte(c.live), &live); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal([]byte(c.wanted), &wanted); err != nil {
			t.Fatal(err)
		}
		if got := covers(live, wanted); got != c.want {
			t.Errorf("%s: %t, want %t", name, got, c.want)
		}
	}
}

// cluster is an API server that keeps objects by their paths.
type cluster struct {
	mu      sync.Mutex
	objects map[string]map[string]any
	patches []string
	refuse  string // the path of an object that it does not take
}

func (c *cluster) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch r.Method {
	case http.MethodGet:
		items := []any{}
		root, plural := path.Split(r.URL.Path)
		for where, object := range c.objects {
			// Those of a namespace are listed with those of all.
			if strings.HasPrefix(where, root) && path.Base(path.Dir(where)) == plural && (managed(object) || r.URL.RawQuery == "") {
				items = append(items, object)
			}
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"items": items})
	case http.MethodPatch:
		if r.URL.Path == c.refuse {
			w.WriteHeader(http.StatusForbidden)
			_ = json.NewEncoder(w).Encode(map[string]any{"kind": "Status", "message": "no escalation"})
			return
		}
		object := map[string]any{}
		if err := json.NewDecoder(r.Body).Decode(&object); err != nil || r.Header.Get("Content-Type") != "application/apply-patch+yaml" ||
			r.URL.Query().Get("fieldManager") != "keelson" || r.URL.Query().Get("force") != "true" {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		c.patches = append(c.patches, r.URL.Path)
		delete(object, "kind") // as lists show it
		delete(object, "apiVersion")
		c.objects[r.URL.Path] = object
	case http.MethodPost:
		object := map[string]any{}
		if err := json.NewDecoder(r.Body).Decode(&object); err != nil || r.Header.Get("Content-Type") != "application/json" {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		path := r.URL.Path + "/" + object["metadata"].(map[string]any)["name"].(string)
		if c.objects[path] != nil {
			w.WriteHeader(http.StatusConflict)
			return
		}
		c.patches = append(c.patches, path)
		c.objects[path] = object
	default:
		w.WriteHeader(http.StatusMethodNotAllowed)
	}
}

func managed(object map[string]any) bool {
	labels, _ := object["metadata"].(map[string]any)["labels"].(map[string]any)
	return labels[managedLabel] == managedBy
}

func newCluster(t *testing.T) (*cluster, *Kubernetes) {
	t.Helper()
	c := &cluster{objects: map[string]map[string]any{}}
	server := httptest.NewServer(c)
	t.Cleanup(server.Close)
	k := testKubernetes(t, Options{})
	k.api = &client{base: server.URL, http: server.Client(), minted: time.Now()}
	return c, k
}

func TestReconcileWritesWhatDiffersOnly(t *testing.T) {
	c, k := newCluster(t)
	round := func(want ...string) {
		t.Helper()
		c.patches = nil
		applied, err := k.reconcile(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if applied != len(want) || len(c.patches) != len(want) {
			t.Fatalf("applied %d: %q, want %q", applied, c.patches, want)
		}
		for i := range want {
			if c.patches[i] != want[i] {
				t.Errorf("applied %q, want %q", c.patches, want)
			}
		}
	}
	var all []string
	for _, each := range k.manifests {
		all = append(all, each.path())
	}
	round(all...)
	round()

	const apidRole = "/apis/rbac.authorization.k8s.io/v1/clusterroles/keelson:apid"
	delete(c.objects, apidRole)
	round(apidRole)

	rules := c.objects[apidRole]["rules"].([]any)
	c.objects[apidRole]["rules"] = append(rules, map[string]any{"verbs": []any{"*"}})
	round(apidRole)

	c.objects[apidRole]["metadata"].(map[string]any)["annotations"] = map[string]any{"others": "may"}
	round()
}

// The class is made once. What people make of it is theirs, and theirs stays the
// default when ours comes back.
func TestReconcileLeavesSeedsToPeople(t *testing.T) {
	c, k := newCluster(t)
	round := func(want int) {
		t.Helper()
		if applied, err := k.reconcile(t.Context()); err != nil || applied != want {
			t.Fatalf("applied %d (%v), want %d", applied, err, want)
		}
	}
	const ours, theirs = storageClasses + "/local-path", storageClasses + "/fast"
	metadata := func() map[string]any { return c.objects[ours]["metadata"].(map[string]any) }
	isDefaultNow := func() any { return metadata()["annotations"].(map[string]any)[isDefault] }
	round(len(k.manifests))
	if got := isDefaultNow(); got != "true" {
		t.Fatalf("at first, default: %v", got)
	}
	metadata()["annotations"] = map[string]any{}
	delete(metadata(), "labels")
	round(0)

	delete(c.objects, ours)
	round(1)
	if got := isDefaultNow(); got != "true" {
		t.Errorf("made again with no other, default: %v", got)
	}
	c.objects[theirs] = map[string]any{"metadata": map[string]any{"name": "fast", "annotations": map[string]any{isDefault: "true"}}}
	delete(c.objects, ours)
	round(1)
	if got := isDefaultNow(); got != "false" {
		t.Errorf("made again beside another, default: %v", got)
	}
	delete(c.objects, theirs)
	delete(c.objects, ours)
	round(1)
	if got := isDefaultNow(); got != "true" {
		t.Errorf("made again after the other went, default: %v", got)
	}
}

func TestReconcileGoesOnPastOneThatIsRefused(t *testing.T) {
	for name, c := range map[string]struct {
		refuse  string
		granted bool
	}{
		"a right":          {"/apis/rbac.authorization.k8s.io/v1/clusterroles/keelson:apid", false},
		"no namespace yet": {"/api/v1/namespaces/kube-system/services/metrics-server", true},
	} {
		api, k := newCluster(t)
		api.refuse = c.refuse
		applied, err := k.reconcile(t.Context())
		if err == nil || !strings.Contains(err.Error(), path.Base(c.refuse)) || !strings.Contains(err.Error(), "no escalation") {
			t.Errorf("%s: got %v, want the object's name and the API server's words", name, err)
		}
		if applied != len(k.manifests)-1 {
			t.Errorf("%s: applied %d of %d", name, applied, len(k.manifests))
		}
		if got := k.granted.has(); got != c.granted {
			t.Errorf("%s: who waits for rights may start: %t, want %t", name, got, c.granted)
		}
	}
}

func TestManifestsOfNoUseAreRefused(t *testing.T) {
	for want, text := range map[string]string{
		"is of no kind":        "{apiVersion: v1, kind: Secret, metadata: {name: x}}",
		"Service x: v2":        "{apiVersion: v2, kind: Service, metadata: {name: x}}",
		"has no name":          "{apiVersion: v1, kind: Service, metadata: {namespace: x}}",
		`Service "a/b" has no`: "{apiVersion: v1, kind: Service, metadata: {name: a/b, namespace: x}}",
		"the namespace":        "{apiVersion: v1, kind: Service, metadata: {name: x}}",
		"APIService y/x: the":  "{apiVersion: apiregistration.k8s.io/v1, kind: APIService, metadata: {name: x, namespace: y}}",
		"mapping values":       "a: b: c",
	} {
		if _, err := parseManifests([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}

func TestReleaseLeaseOnlyOfThisNode(t *testing.T) {
	for holder, want := range map[string]bool{
		"node-1_1b4f": true,
		"node-2_1b4f": false, // another node leads
		"":            false, // nobody does
	} {
		var patched map[string]any
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodPatch {
				_ = json.NewDecoder(r.Body).Decode(&patched)
				return
			}
			_ = json.NewEncoder(w).Encode(map[string]any{
				"metadata": map[string]any{"resourceVersion": "7"},
				"spec":     map[string]any{"holderIdentity": holder},
			})
		}))
		k := testKubernetes(t, Options{Hostname: "node-1"})
		k.api = &client{base: server.URL, http: server.Client(), minted: time.Now()}
		k.releaseLease(t.Context(), ControllerManager)
		server.Close()
		if got := patched != nil; got != want {
			t.Errorf("held by %q: released %t, want %t", holder, got, want)
		}
		if want && patched["metadata"].(map[string]any)["resourceVersion"] != "7" {
			t.Errorf("released without saying which version was seen: %v", patched)
		}
	}
}
