package flanneld

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
)

// fakeAPI serves the Node objects of a cluster: list, watch, and patches of the
// annotations, as much of the Kubernetes API as flanneld uses.
type fakeAPI struct {
	mu      sync.Mutex
	changed *sync.Cond
	nodes   map[string]*corev1.Node
	events  []fakeEvent // the resource version is the number of events
}

type fakeEvent struct {
	Type   watch.EventType `json:"type"`
	Object *corev1.Node    `json:"object"`
}

func newFakeAPI(nodes ...*corev1.Node) *fakeAPI {
	a := &fakeAPI{nodes: map[string]*corev1.Node{}}
	a.changed = sync.NewCond(&a.mu)
	for _, node := range nodes {
		a.put(node)
	}
	return a
}

// put adds or replaces a node.
func (a *fakeAPI) put(node *corev1.Node) {
	a.mu.Lock()
	defer a.mu.Unlock()
	kind := watch.Modified
	if a.nodes[node.Name] == nil {
		kind = watch.Added
	}
	a.record(kind, node)
}

// remove deletes a node.
func (a *fakeAPI) remove(name string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.record(watch.Deleted, a.nodes[name])
}

// record keeps the event for who watches. The caller holds mu.
func (a *fakeAPI) record(kind watch.EventType, node *corev1.Node) {
	node = node.DeepCopy()
	node.TypeMeta = metav1.TypeMeta{APIVersion: "v1", Kind: "Node"}
	node.ResourceVersion = strconv.Itoa(len(a.events) + 1)
	a.events = append(a.events, fakeEvent{kind, node})
	if a.nodes[node.Name] = node; kind == watch.Deleted {
		delete(a.nodes, node.Name)
	}
	a.changed.Broadcast()
}

// get returns a node, nil if there is none.
func (a *fakeAPI) get(name string) *corev1.Node {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.nodes[name].DeepCopy()
}

func (a *fakeAPI) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	var name string
	query := r.URL.Query()
	switch _, err := fmt.Sscanf(r.URL.Path, "/api/v1/nodes/%s", &name); {
	case err == nil && r.Method == http.MethodPatch:
		a.patch(w, r, name)
	case r.URL.Path != "/api/v1/nodes" || r.Method != http.MethodGet:
		refuse(w, http.StatusMethodNotAllowed, metav1.StatusReasonMethodNotAllowed)
	case query.Get("sendInitialEvents") != "":
		refuse(w, http.StatusUnprocessableEntity, metav1.StatusReasonInvalid) // the client lists instead
	case query.Get("watch") != "":
		a.watch(w, r, query.Get("resourceVersion"))
	default:
		a.list(w)
	}
}

func refuse(w http.ResponseWriter, code int, reason metav1.StatusReason) {
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(metav1.Status{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Status"}, Status: metav1.StatusFailure, Code: int32(code), Reason: reason,
	})
}

func (a *fakeAPI) list(w http.ResponseWriter) {
	a.mu.Lock()
	defer a.mu.Unlock()
	list := corev1.NodeList{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "NodeList"}}
	list.ResourceVersion = strconv.Itoa(len(a.events))
	for _, name := range slices.Sorted(maps.Keys(a.nodes)) {
		list.Items = append(list.Items, *a.nodes[name])
	}
	_ = json.NewEncoder(w).Encode(list)
}

// watch sends what happened since the version, until the client goes.
func (a *fakeAPI) watch(w http.ResponseWriter, r *http.Request, version string) {
	next, err := strconv.Atoi(version)
	if err != nil {
		refuse(w, http.StatusBadRequest, metav1.StatusReasonBadRequest)
		return
	}
	defer a.wakeWhenGone(r)()
	flush := w.(http.Flusher).Flush
	flush()
	for r.Context().Err() == nil {
		a.mu.Lock()
		for next >= len(a.events) && r.Context().Err() == nil {
			a.changed.Wait()
		}
		news := a.events[min(next, len(a.events)):]
		a.mu.Unlock()
		for _, event := range news {
			if json.NewEncoder(w).Encode(event) != nil {
				return
			}
		}
		next += len(news)
		flush()
	}
}

// wakeWhenGone ends the waiting for events of a client that is gone.
func (a *fakeAPI) wakeWhenGone(r *http.Request) (stop func()) {
	done := make(chan struct{})
	go func() {
		select {
		case <-r.Context().Done():
			a.changed.Broadcast()
		case <-done:
		}
	}()
	return func() { close(done) }
}

func (a *fakeAPI) patch(w http.ResponseWriter, r *http.Request, path string) {
	body, err := io.ReadAll(r.Body)
	var patch struct {
		Metadata struct{ Annotations map[string]string }
	}
	var name string
	if err == nil {
		err = json.Unmarshal(body, &patch)
	}
	if n := len(path) - len("/status"); n > 0 && path[n:] == "/status" {
		name = path[:n]
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	node := a.nodes[name]
	if node == nil || err != nil || r.Header.Get("Content-Type") != "application/merge-patch+json" {
		refuse(w, http.StatusNotFound, metav1.StatusReasonNotFound)
		return
	}
	node = node.DeepCopy()
	if node.Annotations == nil {
		node.Annotations = map[string]string{}
	}
	maps.Copy(node.Annotations, patch.Metadata.Annotations)
	a.record(watch.Modified, node)
	_ = json.NewEncoder(w).Encode(a.nodes[name])
}

// eventually waits for a condition. The machine may be busy.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	waitFor(t, what, func() error {
		if !holds() {
			return fmt.Errorf("not yet")
		}
		return nil
	})
}
