package workloads

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	workloadpb "github.com/keelson-os/keelson/pkg/api/workload"
)

const testDeadline = 20 * time.Second

// fakeAPI is as much of an API server as the service uses: discovery, objects
// by path, tables, watches, server-side apply that takes what it is given.
type fakeAPI struct {
	mu        sync.Mutex
	resources map[string][]metav1.APIResource
	objects   map[string]map[string]any
	version   int
	requests  []string
	// as holds the users and groups of the requests to impersonate.
	as []string
	// watches are the bodies of the next watches, one each; a watch without one
	// stays open and empty.
	watches []string
	// refuse answers requests whose method and path begin with a key.
	refuse map[string]metav1.Status
	// jsonPatches are the bodies of JSON patches; the first so many of them meet a
	// conflict.
	jsonPatches []string
	conflicts   int
	// forgets is how often a list is not gone on with.
	forgets int
	// exec serves the exec subresource.
	exec http.Handler
}

func newFakeAPI() *fakeAPI {
	return &fakeAPI{
		objects: make(map[string]map[string]any),
		refuse:  make(map[string]metav1.Status),
		resources: map[string][]metav1.APIResource{
			"v1": {
				{Name: "pods", SingularName: "pod", Kind: "Pod", Namespaced: true, ShortNames: []string{"po"}, Verbs: everyVerb},
				{Name: "configmaps", SingularName: "configmap", Kind: "ConfigMap", Namespaced: true, ShortNames: []string{"cm"}, Verbs: everyVerb},
				{Name: "namespaces", SingularName: "namespace", Kind: "Namespace", ShortNames: []string{"ns"}, Verbs: everyVerb},
			},
			"apps/v1": {
				{Name: "deployments", SingularName: "deployment", Kind: "Deployment", Namespaced: true, ShortNames: []string{"deploy"}, Verbs: everyVerb},
			},
			"apiextensions.k8s.io/v1": {
				{Name: "customresourcedefinitions", SingularName: "customresourcedefinition", Kind: "CustomResourceDefinition", ShortNames: []string{"crd"}, Verbs: everyVerb},
			},
		},
	}
}

var everyVerb = metav1.Verbs{"get", "list", "watch", "patch", "delete"}

func (f *fakeAPI) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if strings.HasSuffix(r.URL.Path, "/exec") && f.exec != nil {
		f.exec.ServeHTTP(w, r)
		return
	}
	f.mu.Lock()
	request := r.Method + " " + r.URL.Path
	f.requests = append(f.requests, request)
	if user := r.Header.Get("Impersonate-User"); user != "" {
		f.as = append(f.as, user+":"+strings.Join(r.Header.Values("Impersonate-Group"), ","))
	}
	for prefix, status := range f.refuse {
		if strings.HasPrefix(request, prefix) {
			f.mu.Unlock()
			answer(w, int(status.Code), status)
			return
		}
	}
	if r.URL.Query().Get("watch") != "" {
		body, open := "", true
		if len(f.watches) > 0 {
			body, open = f.watches[0], false
			f.watches = f.watches[1:]
		}
		f.mu.Unlock()
		fmt.Fprint(w, body)
		w.(http.Flusher).Flush()
		if open {
			<-r.Context().Done()
		}
		return
	}
	defer f.mu.Unlock()
	if f.discovery(w, r) {
		return
	}
	switch r.Method {
	case http.MethodGet:
		f.get(w, r)
	case http.MethodPatch:
		f.patch(w, r)
	case http.MethodDelete:
		f.delete(w, r)
	}
}

func (f *fakeAPI) discovery(w http.ResponseWriter, r *http.Request) bool {
	switch r.URL.Path {
	case "/api":
		answer(w, http.StatusOK, metav1.APIVersions{TypeMeta: metav1.TypeMeta{Kind: "APIVersions"}, Versions: []string{"v1"}})
		return true
	case "/apis":
		groups := metav1.APIGroupList{TypeMeta: metav1.TypeMeta{Kind: "APIGroupList", APIVersion: "v1"}}
		for groupVersion := range f.resources {
			if group, version, found := strings.Cut(groupVersion, "/"); found {
				v := metav1.GroupVersionForDiscovery{GroupVersion: groupVersion, Version: version}
				groups.Groups = append(groups.Groups, metav1.APIGroup{Name: group, Versions: []metav1.GroupVersionForDiscovery{v}, PreferredVersion: v})
			}
		}
		answer(w, http.StatusOK, groups)
		return true
	}
	groupVersion, found := strings.CutPrefix(r.URL.Path, "/apis/")
	if !found {
		groupVersion = strings.TrimPrefix(r.URL.Path, "/api/")
	}
	resources, found := f.resources[groupVersion]
	if found {
		answer(w, http.StatusOK, metav1.APIResourceList{TypeMeta: metav1.TypeMeta{Kind: "APIResourceList"}, GroupVersion: groupVersion, APIResources: resources})
	}
	return found
}

// get answers with an object, or with those under a path, as the Accept header
// asks.
func (f *fakeAPI) get(w http.ResponseWriter, r *http.Request) {
	asTable := strings.Contains(r.Header.Get("Accept"), "as=Table")
	object, one := f.objects[r.URL.Path]
	if one && !asTable {
		answer(w, http.StatusOK, object)
		return
	}
	var items []map[string]any
	name := strings.TrimPrefix(r.URL.Query().Get("fieldSelector"), "metadata.name=")
	for _, path := range f.paths() {
		under := strings.HasPrefix(path, r.URL.Path+"/") && !strings.Contains(path[len(r.URL.Path)+1:], "/")
		if (under && (name == "" || strings.HasSuffix(path, "/"+name))) || path == r.URL.Path {
			items = append(items, f.objects[path])
		}
	}
	last := r.URL.Path[strings.LastIndex(r.URL.Path, "/")+1:]
	if len(items) == 0 && !f.isResource(last) {
		answer(w, http.StatusNotFound, notFound(r.URL.Path))
		return
	}
	if r.URL.Query().Get("continue") != "" && f.forgets > 0 {
		f.forgets--
		answer(w, http.StatusGone, failure(http.StatusGone, metav1.StatusReasonExpired, "the provided continue parameter is too old"))
		return
	}
	items, more := pageOf(r, items)
	if asTable {
		table := tableOf(strconv.Itoa(f.version), items...)
		table.Continue = more
		if r.URL.Query().Get("includeObject") == string(metav1.IncludeNone) {
			for i := range table.Rows {
				table.Rows[i].Object.Raw = nil
			}
		}
		answer(w, http.StatusOK, table)
		return
	}
	answer(w, http.StatusOK, map[string]any{
		"apiVersion": "v1", "kind": "AnyList", "items": items,
		"metadata": map[string]any{"resourceVersion": strconv.Itoa(f.version), "continue": more},
	})
}

// pageOf is the part of a list that a request asks for, and from where it goes on.
func pageOf[T any](r *http.Request, items []T) (page []T, more string) {
	from, _ := strconv.Atoi(r.URL.Query().Get("continue"))
	limit, _ := strconv.Atoi(r.URL.Query().Get("limit"))
	page = items[min(from, len(items)):]
	if limit > 0 && limit < len(page) {
		return page[:limit], strconv.Itoa(from + limit)
	}
	return page, ""
}

func (f *fakeAPI) paths() []string {
	var paths []string
	for path := range f.objects {
		paths = append(paths, path)
	}
	slices.Sort(paths)
	return paths
}

func (f *fakeAPI) isResource(name string) bool {
	for _, resources := range f.resources {
		if slices.ContainsFunc(resources, func(r metav1.APIResource) bool { return r.Name == name }) {
			return true
		}
	}
	return false
}

func (f *fakeAPI) patch(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Content-Type") == "application/json-patch+json" {
		body, _ := io.ReadAll(r.Body)
		f.jsonPatches = append(f.jsonPatches, string(body))
		if len(f.jsonPatches) <= f.conflicts {
			answer(w, http.StatusConflict, failure(http.StatusConflict, metav1.StatusReasonConflict, "the object has been modified"))
			return
		}
		answer(w, http.StatusOK, f.objects[r.URL.Path])
		return
	}
	var object map[string]any
	if err := json.NewDecoder(r.Body).Decode(&object); err != nil {
		answer(w, http.StatusBadRequest, metav1.Status{Message: err.Error()})
		return
	}
	stored := f.put(r.URL.Path, object, r.URL.Query().Get("dryRun") != "")
	if group, found := nested(object, "spec", "group"); found {
		kind, _ := nested(object, "spec", "names", "kind")
		plural, _ := nested(object, "spec", "names", "plural")
		f.resources[group+"/v1"] = []metav1.APIResource{{Name: plural, Kind: kind, Namespaced: true, Verbs: everyVerb}}
	}
	answer(w, http.StatusOK, stored)
}

// put stores the object under its path, with what an API server adds.
func (f *fakeAPI) put(path string, object map[string]any, dryRun bool) map[string]any {
	f.version++
	meta, _ := object["metadata"].(map[string]any)
	meta["uid"] = "uid-of-" + path
	meta["resourceVersion"] = strconv.Itoa(f.version)
	if !dryRun {
		f.objects[path] = object
	}
	return object
}

func (f *fakeAPI) delete(w http.ResponseWriter, r *http.Request) {
	if _, found := f.objects[r.URL.Path]; !found {
		answer(w, http.StatusNotFound, notFound(r.URL.Path))
		return
	}
	delete(f.objects, r.URL.Path)
	answer(w, http.StatusOK, metav1.Status{TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}, Status: "Success"})
}

func (f *fakeAPI) count(prefix string) (n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, request := range f.requests {
		if strings.HasPrefix(request, prefix) {
			n++
		}
	}
	return n
}

func nested(object map[string]any, fields ...string) (string, bool) {
	var value any = object
	for _, field := range fields {
		inner, ok := value.(map[string]any)
		if !ok {
			return "", false
		}
		value = inner[field]
	}
	s, ok := value.(string)
	return s, ok
}

func tableOf(version string, objects ...map[string]any) metav1.Table {
	t := table([]metav1.TableColumnDefinition{{Name: "Name", Type: "string", Format: "name"}, {Name: "Age", Type: "date"}})
	t.ResourceVersion = version
	for _, object := range objects {
		name, _ := nested(object, "metadata", "name")
		text, _ := json.Marshal(map[string]any{"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": object["metadata"]})
		t.Rows = append(t.Rows, metav1.TableRow{Cells: []any{name, "1m"}, Object: rawObject(text)})
	}
	return *t
}

func answer(w http.ResponseWriter, code int, object any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(object)
}

func failure(code int32, reason metav1.StatusReason, message string) metav1.Status {
	return metav1.Status{
		TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"},
		Status:   metav1.StatusFailure, Code: code, Reason: reason, Message: message,
	}
}

func notFound(path string) metav1.Status {
	return failure(http.StatusNotFound, metav1.StatusReasonNotFound, path+" not found")
}

// object is a minimal object of a kind.
func object(apiVersion, kind, name string) map[string]any {
	return map[string]any{"apiVersion": apiVersion, "kind": kind, "metadata": map[string]any{"name": name}}
}

// kubeconfig starts the fake and writes how to reach it.
func (f *fakeAPI) kubeconfig(t *testing.T) string {
	t.Helper()
	kube := httptest.NewServer(f)
	t.Cleanup(kube.Close)
	return kubeconfigFor(t, kube.URL)
}

func kubeconfigFor(t *testing.T, server string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "kubeconfig")
	content := fmt.Sprintf(`{"apiVersion":"v1","kind":"Config","current-context":"c",
		"clusters":[{"name":"c","cluster":{"server":%q}}],"contexts":[{"name":"c","context":{"cluster":"c"}}]}`, server)
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// serve puts the service in front of the fake and connects a client to it.
func (f *fakeAPI) serve(t *testing.T) workloadpb.WorkloadServiceClient {
	t.Helper()
	return dial(t, New(Options{Kubeconfig: f.kubeconfig(t), Caller: ada, Log: slog.New(slog.DiscardHandler)}))
}

func ada(context.Context) (rest.ImpersonationConfig, error) {
	return rest.ImpersonationConfig{UserName: "ada", Groups: []string{"keelson:operator"}}, nil
}

func dial(t *testing.T, service *Server) workloadpb.WorkloadServiceClient {
	t.Helper()
	listener := bufconn.Listen(1 << 16)
	server := grpc.NewServer()
	workloadpb.RegisterWorkloadServiceServer(server, service)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(listener)
	}()
	conn, err := grpc.NewClient("passthrough:bufconn", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(); server.Stop(); <-done })
	return workloadpb.NewWorkloadServiceClient(conn)
}

func testContext(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), testDeadline)
	t.Cleanup(cancel)
	return ctx
}

// collect receives until the stream ends.
func collect[T any](t *testing.T, receive func() (*T, error)) (all []*T, err error) {
	t.Helper()
	for {
		next, err := receive()
		if err != nil {
			return all, err
		}
		all = append(all, next)
	}
}
