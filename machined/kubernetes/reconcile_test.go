package kubernetes

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
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
		for path, object := range c.objects {
			if strings.HasPrefix(path, r.URL.Path+"/") {
				if managed(object) || r.URL.RawQuery == "" {
					items = append(items, object)
				}
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
	c, k := newCluster(t)
	c.refuse = k.manifests[0].path()
	applied, err := k.reconcile(t.Context())
	if err == nil || !strings.Contains(err.Error(), k.manifests[0].name) || !strings.Contains(err.Error(), "no escalation") {
		t.Errorf("got %v, want the object's name and the API server's words", err)
	}
	if applied != len(k.manifests)-1 {
		t.Errorf("applied %d of %d", applied, len(k.manifests))
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
