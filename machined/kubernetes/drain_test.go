package kubernetes

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keelson-os/keelson/pkg/machineconfig"
)

// podOf is a pod of a controller of that kind; none when it is empty.
func podOf(name, controller string) podObject {
	var pod podObject
	pod.Metadata.Namespace, pod.Metadata.Name, pod.Metadata.UID = "default", name, "uid-"+name
	pod.Status.Phase = "Running"
	if controller != "" {
		text := fmt.Sprintf(`{"ownerReferences":[{"kind":"Node"},{"kind":%q,"controller":true}]}`, controller)
		if err := json.Unmarshal([]byte(text), &pod.Metadata); err != nil {
			panic(err)
		}
	}
	return pod
}

func TestWhichPodsMove(t *testing.T) {
	with := func(pod podObject, change func(*podObject)) podObject {
		change(&pod)
		return pod
	}
	for name, c := range map[string]struct {
		pod  podObject
		want bool
	}{
		"of a Deployment":       {podOf("a", "ReplicaSet"), true},
		"of a StatefulSet":      {podOf("a", "StatefulSet"), true},
		"of a DaemonSet":        {podOf("a", "DaemonSet"), false},
		"of nobody":             {podOf("a", ""), false},
		"finished":              {with(podOf("a", "Job"), func(p *podObject) { p.Status.Phase = "Succeeded" }), false},
		"failed":                {with(podOf("a", "ReplicaSet"), func(p *podObject) { p.Status.Phase = "Failed" }), false},
		"waiting for an image":  {with(podOf("a", "ReplicaSet"), func(p *podObject) { p.Status.Phase = "Pending" }), true},
		"a mirror of a file":    {with(podOf("a", "ReplicaSet"), func(p *podObject) { p.Metadata.Annotations = map[string]string{"kubernetes.io/config.mirror": "x"} }), false},
		"on its way out":        {with(podOf("a", "ReplicaSet"), func(p *podObject) { p.Metadata.Deleted = &time.Time{} }), true},
		"owned, not controlled": {with(podOf("a", "ReplicaSet"), func(p *podObject) { p.Metadata.Owners[1].Controller = false }), false},
	} {
		if got := c.pod.moves(); got != c.want {
			t.Errorf("a pod that is %s moves: %t, want %t", name, got, c.want)
		}
	}
}

func TestDrainagePlansAndBacksOff(t *testing.T) {
	now := time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	state := drainage{}
	a, b, daemon := podOf("a", "ReplicaSet"), podOf("b", "ReplicaSet"), podOf("d", "DaemonSet")
	pods := []podObject{a, b, daemon}
	look := func(wantLeft, wantDue string) {
		t.Helper()
		left, due := state.next(pods, now)
		if fmt.Sprint(left) != wantLeft || fmt.Sprint(due) != wantDue {
			t.Errorf("left %v, due %v, want %s, %s", left, due, wantLeft, wantDue)
		}
	}
	budget := &statusError{http.StatusTooManyRequests, "Cannot evict pod as it would violate the pod's disruption budget."}
	look("[default/a default/b]", "[default/a default/b]")
	if got := state.note(a, nil, now); got != "evicting default/a" {
		t.Errorf("told %q", got)
	}
	if got := state.note(b, budget, now); got != "evicting default/b: its disruption budget allows none now" {
		t.Errorf("told %q", got)
	}
	look("[default/a default/b]", "[]")
	var pauses []time.Duration
	for range 8 {
		began := now
		for {
			now = now.Add(time.Second)
			if _, due := state.next(pods, now); len(due) > 0 {
				break
			}
		}
		pauses = append(pauses, now.Sub(began)/time.Second)
		if got := state.note(b, budget, now); got != "" {
			t.Errorf("told once more: %q", got)
		}
	}
	if diff := cmp.Diff([]time.Duration{1, 2, 4, 8, 15, 15, 15, 15}, pauses); diff != "" {
		t.Error(diff)
	}
	pods = []podObject{b, daemon}
	if got, want := state.describe(pods[:1]), "default/b (its disruption budget allows none now)"; got != want {
		t.Errorf("describes %q, want %q", got, want)
	}
	// Somebody else deletes it.
	b.Metadata.Deleted = &now
	pods[0] = b
	now = now.Add(time.Hour)
	look("[default/b]", "[]")
	if got, want := state.describe(pods[:1]), "default/b (still ends)"; got != want {
		t.Errorf("describes %q, want %q", got, want)
	}
}

func TestRefusals(t *testing.T) {
	for _, c := range []struct {
		answer error
		want   string
	}{
		{nil, ""},
		{&statusError{http.StatusNotFound, "no such pod"}, ""},
		{&statusError{http.StatusConflict, "the object has been modified"}, "it was changed at the same time"},
		{fmt.Errorf("POST: %w", &statusError{http.StatusTooManyRequests, "it would violate the pod's disruption budget."}), "its disruption budget allows none now"},
		{&statusError{http.StatusTooManyRequests, "too many requests, please try again later"}, "too many requests, please try again later"},
		{&statusError{http.StatusInternalServerError, "This pod has more than one PodDisruptionBudget"}, "This pod has more than one PodDisruptionBudget"},
		{errors.New("connection refused"), "connection refused"},
	} {
		if got := refusal(c.answer); got != c.want {
			t.Errorf("%v: %q, want %q", c.answer, got, c.want)
		}
	}
}

func TestFewPodsAreNamed(t *testing.T) {
	var left []podObject
	for i := range 8 {
		left = append(left, podOf(fmt.Sprint(i), "ReplicaSet"))
	}
	if got, want := (drainage{}).describe(left), "default/0, default/1, default/2, default/3, default/4, and 3 more"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// node is a Node of a fake cluster.
func nodeOf(name string, ready, unschedulable bool) nodeObject {
	var node nodeObject
	text := fmt.Sprintf(`{"metadata":{"name":%q,"resourceVersion":"1"},"spec":{"unschedulable":%t},
		"status":{"conditions":[{"type":"MemoryPressure","status":"True"},
		{"type":"Ready","status":%q,"lastHeartbeatTime":"2999-01-01T00:00:00Z"}]}}`, name, unschedulable, map[bool]string{true: "True", false: "Unknown"}[ready])
	if err := json.Unmarshal([]byte(text), &node); err != nil {
		panic(err)
	}
	return node
}

func TestOthersTakePods(t *testing.T) {
	for name, c := range map[string]struct {
		nodes []nodeObject
		want  bool
	}{
		"no other":          {[]nodeObject{nodeOf("node-1", true, false)}, false},
		"one that is fine":  {[]nodeObject{nodeOf("node-1", true, true), nodeOf("node-2", true, false)}, true},
		"a dead one":        {[]nodeObject{nodeOf("node-1", true, false), nodeOf("node-2", false, false)}, false},
		"a cordoned one":    {[]nodeObject{nodeOf("node-1", true, false), nodeOf("node-2", true, true)}, false},
		"one of three fine": {[]nodeObject{nodeOf("node-1", true, false), nodeOf("node-2", true, true), nodeOf("node-3", true, false)}, true},
	} {
		if got := othersTakePods(c.nodes, "node-1"); got != c.want {
			t.Errorf("%s: %t, want %t", name, got, c.want)
		}
	}
}

// drainee is the API server of a cluster that node-1 leaves.
type drainee struct {
	mu    sync.Mutex
	nodes []nodeObject
	pods  []podObject
	// budgets are how often a pod's eviction is refused before it is allowed; -1
	// is for ever.
	budgets map[string]int
	// ends is how long an evicted pod takes; zero is at once.
	ends      time.Duration
	down      func() bool
	evictions []string
	patches   []string
	conflicts int // refuse so many patches as made for an older version
}

// RoundTrip answers without a network, so that a test's time can pass at once.
func (d *drainee) RoundTrip(request *http.Request) (*http.Response, error) {
	if err := request.Context().Err(); err != nil {
		return nil, err
	}
	if d.down != nil && d.down() {
		return nil, errors.New("connect: connection refused")
	}
	answer := httptest.NewRecorder()
	d.ServeHTTP(answer, request)
	return answer.Result(), nil
}

func (d *drainee) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	d.mu.Lock()
	defer d.mu.Unlock()
	fail := func(code int, message string) {
		w.WriteHeader(code)
		_ = json.NewEncoder(w).Encode(map[string]any{"kind": "Status", "message": message})
	}
	list := func(items any) { _ = json.NewEncoder(w).Encode(map[string]any{"items": items}) }
	switch {
	case r.Method == http.MethodGet && r.URL.Path == "/api/v1/nodes":
		list(d.nodes)
	case r.Method == http.MethodGet && r.URL.Path == "/api/v1/nodes/node-1":
		_ = json.NewEncoder(w).Encode(d.nodes[0])
	case r.Method == http.MethodPatch && r.URL.Path == "/api/v1/nodes/node-1":
		if d.conflicts > 0 {
			d.conflicts--
			fail(http.StatusConflict, "the object has been modified")
			return
		}
		d.patch(r)
	case r.Method == http.MethodGet && r.URL.Path == "/api/v1/pods" && r.URL.Query().Get("fieldSelector") == "spec.nodeName=node-1":
		d.pods = slices.DeleteFunc(d.pods, func(pod podObject) bool {
			return pod.Metadata.Deleted != nil && !time.Now().Before(*pod.Metadata.Deleted)
		})
		list(d.pods)
	case r.Method == http.MethodPost && strings.HasSuffix(r.URL.Path, "/eviction"):
		if code, message := d.evict(r); code != 0 {
			fail(code, message)
		}
	default:
		fail(http.StatusForbidden, r.Method+" "+r.URL.String()+" is forbidden")
	}
}

func (d *drainee) patch(r *http.Request) {
	var patch struct {
		Metadata struct {
			Annotations map[string]*string
		}
		Spec struct{ Unschedulable *bool }
	}
	if err := json.NewDecoder(r.Body).Decode(&patch); err != nil {
		panic(err)
	}
	node := &d.nodes[0]
	node.Spec.Unschedulable = patch.Spec.Unschedulable != nil
	node.Metadata.Annotations = map[string]string{}
	for name, value := range patch.Metadata.Annotations {
		if value != nil {
			node.Metadata.Annotations[name] = *value
		}
	}
	d.patches = append(d.patches, fmt.Sprint(node.Spec.Unschedulable))
}

func (d *drainee) evict(r *http.Request) (code int, message string) {
	var eviction struct {
		Kind, APIVersion string
		DeleteOptions    struct{ Preconditions struct{ UID string } }
	}
	if err := json.NewDecoder(r.Body).Decode(&eviction); err != nil || eviction.Kind != "Eviction" || eviction.APIVersion != "policy/v1" {
		return http.StatusBadRequest, "no eviction"
	}
	for i := range d.pods {
		pod := &d.pods[i]
		if r.URL.Path != "/api/v1/namespaces/default/pods/"+pod.Metadata.Name+"/eviction" {
			continue
		}
		if eviction.DeleteOptions.Preconditions.UID != pod.Metadata.UID {
			return http.StatusConflict, "the UID in the precondition"
		}
		if d.budgets[pod.Metadata.Name] != 0 {
			d.budgets[pod.Metadata.Name]--
			return http.StatusTooManyRequests, "Cannot evict pod as it would violate the pod's disruption budget."
		}
		d.evictions = append(d.evictions, pod.Metadata.Name)
		ends := time.Now().Add(d.ends)
		pod.Metadata.Deleted = &ends
		return 0, ""
	}
	return http.StatusNotFound, "no such pod"
}

// drained drains node-1 in a time of its own and returns how long it took.
func (d *drainee) drained(t *testing.T, k *Kubernetes, timeout time.Duration) (told []string, took time.Duration, err error) {
	t.Helper()
	k.api = &client{base: "https://127.0.0.1:6443", http: &http.Client{Transport: d}, minted: time.Now()}
	k.node = Node{Registered: true, Ready: true}
	began := time.Now()
	err = k.Drain(t.Context(), timeout, func(message string) { told = append(told, message) })
	return told, time.Since(began), err
}

func newDrainee(pods ...podObject) *drainee {
	return &drainee{nodes: []nodeObject{nodeOf("node-1", true, false), nodeOf("node-2", true, false)}, pods: pods, budgets: map[string]int{}}
}

func TestDrainEvictsAndWaits(t *testing.T) {
	k := testKubernetes(t, Options{Hostname: "node-1"})
	synctest.Test(t, func(t *testing.T) {
		d := newDrainee(podOf("web-1", "ReplicaSet"), podOf("web-2", "ReplicaSet"), podOf("log", "DaemonSet"), podOf("bare", ""))
		d.budgets["web-2"], d.ends, d.conflicts = 3, 20*time.Second, 2
		told, took, err := d.drained(t, k, 5*time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		if took < d.ends || took > time.Minute {
			t.Errorf("it took %s", took)
		}
		want := []string{"evicting default/web-1", "evicting default/web-2: its disruption budget allows none now", "evicting default/web-2"}
		if diff := cmp.Diff(want, told); diff != "" {
			t.Error(diff)
		}
		if diff := cmp.Diff([]string{"web-1", "web-2"}, d.evictions); diff != "" {
			t.Error(diff)
		}
		if node := d.nodes[0]; !node.Spec.Unschedulable || node.Metadata.Annotations[cordonedBy] != byShutdown {
			t.Errorf("the node is not cordoned: %+v", node.Metadata)
		}
	})
}

func TestDrainEndsInTime(t *testing.T) {
	k := testKubernetes(t, Options{Hostname: "node-1"})
	synctest.Test(t, func(t *testing.T) {
		d := newDrainee(podOf("web-1", "ReplicaSet"))
		d.budgets["web-1"] = -1
		told, took, err := d.drained(t, k, 5*time.Minute)
		want := "pods left after 5m0s: default/web-1 (its disruption budget allows none now)"
		if err == nil || err.Error() != want || took != 5*time.Minute {
			t.Errorf("after %s: %v, want %q", took, err, want)
		}
		// It is told of less and less often.
		waiting := slices.DeleteFunc(told, func(message string) bool { return !strings.HasPrefix(message, "waiting for default/web-1") })
		if len(waiting) != 3 {
			t.Errorf("told %q", told)
		}
	})
}

func TestADeadAPIHoldsNoShutdownUp(t *testing.T) {
	for name, down := range map[string]func(t *testing.T, began time.Time) func() bool{
		"from the beginning": func(*testing.T, time.Time) func() bool { return func() bool { return true } },
		"after a minute": func(_ *testing.T, began time.Time) func() bool {
			return func() bool { return time.Since(began) > time.Minute }
		},
	} {
		k := testKubernetes(t, Options{Hostname: "node-1"})
		synctest.Test(t, func(t *testing.T) {
			d := newDrainee(podOf("web-1", "ReplicaSet"))
			d.budgets["web-1"] = -1
			d.down = down(t, time.Now())
			_, took, err := d.drained(t, k, 24*time.Hour)
			if err == nil || !strings.Contains(err.Error(), "connection refused") || took > time.Minute+20*time.Second {
				t.Errorf("%s: after %s: %v", name, took, err)
			}
		})
	}
}

func TestWhereNothingIsDrained(t *testing.T) {
	k := testKubernetes(t, Options{Hostname: "node-1"})
	d := newDrainee(podOf("web-1", "ReplicaSet"))
	d.nodes = d.nodes[:1]
	if _, _, err := d.drained(t, k, time.Hour); !errors.Is(err, ErrAlone) || len(d.patches) > 0 || len(d.evictions) > 0 {
		t.Errorf("alone: %v, %v, %v", err, d.patches, d.evictions)
	}
	k = testKubernetes(t, Options{Hostname: "node-1"})
	k.api = &client{base: "https://127.0.0.1:6443", http: &http.Client{Transport: d}, minted: time.Now()}
	if err := k.Drain(t.Context(), time.Hour, nil); err != nil || len(d.evictions) > 0 {
		t.Errorf("never joined: %v, %v", err, d.evictions)
	}
}

// A worker may not list nodes: the fake refuses what its kubelet's certificate
// is refused.
func TestAWorkerDrainsWithItsOwnRights(t *testing.T) {
	k := testKubernetes(t, Options{Hostname: "node-1"})
	k.options.Config.Machine.Type = machineconfig.Worker
	synctest.Test(t, func(t *testing.T) {
		d := newDrainee(podOf("web-1", "ReplicaSet"))
		d.nodes = d.nodes[:1]
		if _, _, err := d.drained(t, k, time.Minute); err != nil || len(d.evictions) != 1 {
			t.Errorf("%v, evicted %v", err, d.evictions)
		}
	})
}

func TestUncordonTakesBackOnlyItsOwn(t *testing.T) {
	ours := nodeOf("node-1", true, true)
	ours.Metadata.Annotations = map[string]string{cordonedBy: byShutdown}
	notReady := nodeOf("node-1", false, true)
	notReady.Metadata.Annotations = ours.Metadata.Annotations
	for name, c := range map[string]struct {
		node    nodeObject
		leaving bool
		want    int
	}{
		"ours":                {ours, false, 1},
		"an administrator's":  {nodeOf("node-1", true, true), false, 0},
		"not Ready yet":       {notReady, false, 0},
		"on its way down":     {ours, true, 0},
		"not cordoned at all": {nodeOf("node-1", true, false), false, 0},
	} {
		d := &drainee{nodes: []nodeObject{c.node}, conflicts: 1}
		k := testKubernetes(t, Options{Hostname: "node-1"})
		k.api = &client{base: "https://127.0.0.1:6443", http: &http.Client{Transport: d}, minted: time.Now()}
		k.leaving = c.leaving
		if err := k.uncordon(t.Context(), c.node); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if len(d.patches) != c.want {
			t.Errorf("%s: patched %v", name, d.patches)
		}
		if c.want == 1 && (d.nodes[0].Spec.Unschedulable || d.nodes[0].Metadata.Annotations[cordonedBy] != "") {
			t.Errorf("%s: still cordoned: %+v", name, d.nodes[0])
		}
	}
}

func TestStayTakesADrainBack(t *testing.T) {
	k := testKubernetes(t, Options{Hostname: "node-1"})
	synctest.Test(t, func(t *testing.T) {
		d := newDrainee(podOf("web-1", "ReplicaSet"))
		d.budgets["web-1"], d.conflicts = -1, 1
		if _, _, err := d.drained(t, k, time.Minute); err == nil || !d.nodes[0].Spec.Unschedulable {
			t.Fatalf("the node is not drained, and not cordoned: %v", err)
		}
		if err := k.Stay(t.Context()); err != nil {
			t.Fatal(err)
		}
		if node := d.nodes[0]; node.Spec.Unschedulable || node.Metadata.Annotations[cordonedBy] != "" || k.leaving {
			t.Errorf("it is cordoned yet: %+v", node)
		}
	})
}

func TestLongListsAreReadInPages(t *testing.T) {
	asked := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked++
		if r.URL.Query().Get("limit") == "" {
			t.Error("the page has no bound")
		}
		next := map[string]string{"": "two", "two": "three", "three": ""}[r.URL.Query().Get("continue")]
		_ = json.NewEncoder(w).Encode(map[string]any{
			"metadata": map[string]any{"continue": next}, "items": []podObject{podOf(fmt.Sprint(asked), "ReplicaSet")},
		})
	}))
	defer server.Close()
	k := testKubernetes(t, Options{Hostname: "node-1"})
	k.api = &client{base: server.URL, http: server.Client(), minted: time.Now()}
	pods, err := k.podsHere(t.Context())
	if err != nil || fmt.Sprint(pods) != "[default/1 default/2 default/3]" {
		t.Errorf("%v, %v", pods, err)
	}
}

func TestDeleteNode(t *testing.T) {
	for code, fine := range map[int]bool{http.StatusOK: true, http.StatusNotFound: true, http.StatusForbidden: false} {
		var method, path string
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			method, path = r.Method, r.URL.Path
			w.WriteHeader(code)
		}))
		k := testKubernetes(t, Options{Hostname: "node-1"})
		k.api = &client{base: server.URL, http: server.Client(), minted: time.Now()}
		if err := k.DeleteNode(t.Context()); (err == nil) != fine || method != http.MethodDelete || path != "/api/v1/nodes/node-1" {
			t.Errorf("%d: %s %s: %v", code, method, path, err)
		}
		server.Close()
	}
}
