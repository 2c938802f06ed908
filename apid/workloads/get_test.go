package workloads

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	workloadpb "github.com/keelson-os/keelson/pkg/api/workload"
)

// withPods is a cluster of three pods.
func withPods() *fakeAPI {
	f := newFakeAPI()
	for _, path := range []string{"default/pods/web", "default/pods/db", "team/pods/web"} {
		f.put("/api/v1/namespaces/"+path, object("v1", "Pod", path[strings.LastIndex(path, "/")+1:]), false)
	}
	return f
}

func TestGet(t *testing.T) {
	client := withPods().serve(t)
	for _, test := range []struct {
		name      string
		selection *workloadpb.Selection
		output    workloadpb.Output
		kind      string
		names     []string
	}{
		{"table", &workloadpb.Selection{Resource: "pods"}, workloadpb.Output_OUTPUT_TABLE, "Table", []string{"db", "web"}},
		{"by default a table", &workloadpb.Selection{Resource: "po", Namespace: "team"}, workloadpb.Output_OUTPUT_UNSPECIFIED, "Table", []string{"web"}},
		{"tables of names are one", &workloadpb.Selection{Resource: "Pod", Names: []string{"web", "db"}}, workloadpb.Output_OUTPUT_TABLE, "Table", []string{"web", "db"}},
		{"list", &workloadpb.Selection{Resource: "pod"}, workloadpb.Output_OUTPUT_OBJECTS, "List", []string{"db", "web"}},
		{"list of names", &workloadpb.Selection{Resource: "pods.v1.", Names: []string{"web", "db"}}, workloadpb.Output_OUTPUT_OBJECTS, "List", []string{"web", "db"}},
		{"one", &workloadpb.Selection{Resource: "pods", Names: []string{"web"}}, workloadpb.Output_OUTPUT_OBJECTS, "Pod", nil},
		{"none", &workloadpb.Selection{Resource: "deploy"}, workloadpb.Output_OUTPUT_TABLE, "Table", nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := client.Get(testContext(t), &workloadpb.GetRequest{Selection: test.selection, Output: test.output})
			if err != nil {
				t.Fatal(err)
			}
			var answer struct {
				Kind  string
				Items []metav1.PartialObjectMetadata
				Rows  []metav1.TableRow
			}
			if err := json.Unmarshal(got.GetJson(), &answer); err != nil {
				t.Fatal(err)
			}
			kind := "pod"
			if test.selection.GetResource() == "deploy" {
				kind = "deployment.apps"
			}
			if got.GetKind() != kind {
				t.Errorf("kind %q, want %q", got.GetKind(), kind)
			}
			var names []string
			for _, item := range answer.Items {
				names = append(names, item.Name)
			}
			for _, row := range answer.Rows {
				names = append(names, row.Cells[0].(string))
			}
			if answer.Kind != test.kind || !slices.Equal(names, test.names) {
				t.Errorf("got %s of %q, want %s of %q", answer.Kind, names, test.kind, test.names)
			}
		})
	}
}

func TestGetOfWhatIsNotThere(t *testing.T) {
	f := withPods()
	f.refuse["GET /api/v1/namespaces/secret"] = failure(http.StatusForbidden, metav1.StatusReasonForbidden, `User "ada" cannot list pods`)
	// Words of Kubernetes 1.37 whose API server has not read its own RBAC yet.
	f.refuse["GET /api/v1/namespaces/early"] = failure(http.StatusForbidden, metav1.StatusReasonForbidden,
		`pods is forbidden: User "keelson:apid" cannot impersonate-on:user-info:list resource "pods" in API group "" in the namespace "early"`)
	client := f.serve(t)
	for _, test := range []struct {
		name      string
		selection *workloadpb.Selection
		want      codes.Code
		says      string
	}{
		{"mistyped resource", &workloadpb.Selection{Resource: "deplyoment"}, codes.NotFound, "deployment, deployments"},
		{"no such resource", &workloadpb.Selection{Resource: "unicorns"}, codes.NotFound, `no resource "unicorns"`},
		{"no resource", &workloadpb.Selection{}, codes.InvalidArgument, "resource is missing"},
		{"several resources", &workloadpb.Selection{Resource: "pods,deployments"}, codes.InvalidArgument, "each by itself"},
		{"a path", &workloadpb.Selection{Resource: "pods/web/exec"}, codes.InvalidArgument, "no name of a resource"},
		{"a path as name", &workloadpb.Selection{Resource: "pods", Names: []string{"../secrets"}}, codes.InvalidArgument, "no name of an object"},
		{"a path as namespace", &workloadpb.Selection{Resource: "pods", Namespace: "a/b"}, codes.InvalidArgument, "no name of an object"},
		{"names and selector", &workloadpb.Selection{Resource: "pods", Names: []string{"web"}, LabelSelector: "a=b"}, codes.InvalidArgument, "exclude each other"},
		{"name in all namespaces", &workloadpb.Selection{Resource: "pods", Names: []string{"web"}, AllNamespaces: true}, codes.InvalidArgument, "one namespace"},
		{"no such pod", &workloadpb.Selection{Resource: "pods", Names: []string{"wbe"}}, codes.NotFound, "pods/wbe not found"},
		{"forbidden", &workloadpb.Selection{Resource: "pods", Namespace: "secret"}, codes.PermissionDenied, "cannot list pods"},
		{"refused to apid, not to the caller", &workloadpb.Selection{Resource: "pods", Namespace: "early"}, codes.Unavailable, "try again in some seconds"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := client.Get(testContext(t), &workloadpb.GetRequest{Selection: test.selection})
			if status.Code(err) != test.want || !strings.Contains(err.Error(), test.says) {
				t.Errorf("got %v, want %s with %q", err, test.want, test.says)
			}
		})
	}
}

func TestGetOfNamesThatAreNotAllThere(t *testing.T) {
	client := withPods().serve(t)
	for _, test := range []struct {
		name    string
		names   []string
		ignore  bool
		shows   bool
		missing string
		want    codes.Code
	}{
		{"some", []string{"wbe", "db", "nope"}, false, true, "pods/wbe not found|pods/nope not found", codes.OK},
		{"none", []string{"wbe", "nope"}, false, false, "", codes.NotFound},
		{"some, ignored", []string{"wbe", "db"}, true, true, "", codes.OK},
		{"none, ignored", []string{"wbe"}, true, false, "", codes.OK},
	} {
		for _, output := range []workloadpb.Output{workloadpb.Output_OUTPUT_TABLE, workloadpb.Output_OUTPUT_OBJECTS} {
			t.Run(test.name+" as "+output.String(), func(t *testing.T) {
				got, err := client.Get(testContext(t), &workloadpb.GetRequest{
					Selection: &workloadpb.Selection{Resource: "pods", Names: test.names}, Output: output, IgnoreNotFound: test.ignore,
				})
				if status.Code(err) != test.want {
					t.Fatal(err)
				}
				if shows := strings.Contains(string(got.GetJson()), `"db"`); shows != test.shows || !shows && len(got.GetJson()) > 0 {
					t.Errorf("got %s", got.GetJson())
				}
				messages := strings.Split(test.missing, "|")
				if test.missing == "" {
					messages = nil
				}
				if !slices.EqualFunc(got.GetNotFound(), messages, strings.Contains) {
					t.Errorf("missing: %q", got.GetNotFound())
				}
			})
		}
	}
	if _, err := client.Get(testContext(t), &workloadpb.GetRequest{
		Selection: &workloadpb.Selection{Resource: "unicorns", Names: []string{"x"}}, IgnoreNotFound: true,
	}); status.Code(err) != codes.NotFound {
		t.Errorf("a resource that does not exist: %v", err)
	}
}

func TestGetOfColumnsOnly(t *testing.T) {
	client := withPods().serve(t)
	for only, want := range map[bool]bool{true: false, false: true} {
		got, err := client.Get(testContext(t), &workloadpb.GetRequest{Selection: &workloadpb.Selection{Resource: "pods"}, ColumnsOnly: only})
		if err != nil {
			t.Fatal(err)
		}
		if has := strings.Contains(string(got.GetJson()), "PartialObjectMetadata"); has != want {
			t.Errorf("columns only %t: %s", only, got.GetJson())
		}
	}
	_, err := client.Get(testContext(t), &workloadpb.GetRequest{Selection: &workloadpb.Selection{Resource: "pods"}, ColumnsOnly: true, IncludeObjects: true})
	if status.Code(err) != codes.InvalidArgument {
		t.Errorf("both: %v", err)
	}
}

func TestGetOfPages(t *testing.T) {
	client := withManyPods(5).serve(t)
	for output, items := range map[workloadpb.Output]string{
		workloadpb.Output_OUTPUT_TABLE: "rows", workloadpb.Output_OUTPUT_OBJECTS: "items",
	} {
		var sizes []int
		for from := ""; len(sizes) < 5; {
			got, err := client.Get(testContext(t), &workloadpb.GetRequest{
				Selection: &workloadpb.Selection{Resource: "pods"}, Output: output, Limit: 2, Continue: from,
			})
			if err != nil {
				t.Fatal(err)
			}
			var answer map[string]json.RawMessage
			var page []json.RawMessage
			if err := errors.Join(json.Unmarshal(got.GetJson(), &answer), json.Unmarshal(answer[items], &page)); err != nil {
				t.Fatal(err)
			}
			sizes = append(sizes, len(page))
			if from = got.GetContinue(); from == "" {
				break
			}
		}
		if want := []int{2, 2, 1}; !slices.Equal(sizes, want) {
			t.Errorf("%s: pages of %v objects, want %v", output, sizes, want)
		}
	}
}

// withManyPods is a cluster with so many pods.
func withManyPods(count int) *fakeAPI {
	f := newFakeAPI()
	for i := range count {
		name := fmt.Sprintf("pod-%04d", i)
		pod := f.put("/api/v1/namespaces/default/pods/"+name, object("v1", "Pod", name), false)
		pod["metadata"].(map[string]any)["namespace"] = "default"
	}
	return f
}

func TestTooLargeAnAnswerIsRefused(t *testing.T) {
	f := withPods()
	big := object("v1", "Pod", "big")
	big["padding"] = strings.Repeat("x", maxResponse)
	f.put("/api/v1/namespaces/default/pods/big", big, false)
	_, err := f.serve(t).Get(testContext(t), &workloadpb.GetRequest{
		Selection: &workloadpb.Selection{Resource: "pods"}, Output: workloadpb.Output_OUTPUT_OBJECTS,
	})
	if status.Code(err) != codes.ResourceExhausted || !strings.Contains(err.Error(), "select less") {
		t.Errorf("got %v", err)
	}
}

func TestWhatResourcesThereAreIsAskedOnceAndAgainForAnUnknownOne(t *testing.T) {
	f := withPods()
	client := f.serve(t)
	for _, resource := range []string{"pods", "cm", "deployments", "pods"} {
		if _, err := client.Get(testContext(t), &workloadpb.GetRequest{Selection: &workloadpb.Selection{Resource: resource}}); err != nil {
			t.Fatal(err)
		}
	}
	if n := f.count("GET /apis/apps/v1"); n > 2 {
		t.Errorf("the API server was asked %d times for its resources", n)
	}
	f.mu.Lock()
	f.resources["example.org/v1"] = []metav1.APIResource{{Name: "foos", Kind: "Foo", Namespaced: true, Verbs: everyVerb}}
	f.mu.Unlock()
	if _, err := client.Get(testContext(t), &workloadpb.GetRequest{Selection: &workloadpb.Selection{Resource: "foos"}}); err != nil {
		t.Errorf("a resource that is new: %v", err)
	}
}

func TestKubernetesThatIsNotThereYet(t *testing.T) {
	kubeconfig := filepath.Join(t.TempDir(), "kubeconfig")
	client := dial(t, New(Options{Kubeconfig: kubeconfig, Caller: ada, Log: slog.New(slog.DiscardHandler)}))
	_, err := client.Get(testContext(t), &workloadpb.GetRequest{Selection: &workloadpb.Selection{Resource: "pods"}})
	if status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "osctl bootstrap") {
		t.Errorf("without a kubeconfig: %v", err)
	}
	f := newFakeAPI()
	f.refuse["GET /api"] = failure(http.StatusForbidden, metav1.StatusReasonForbidden, "no")
	_, err = f.serve(t).Get(testContext(t), &workloadpb.GetRequest{Selection: &workloadpb.Selection{Resource: "pods"}})
	if status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "still starting") {
		t.Errorf("before RBAC is there: %v", err)
	}
}

func TestListItemsGetTheirKind(t *testing.T) {
	for _, test := range []struct{ name, answer, want string }{
		{"of the API server's own", `{"kind":"PodList","apiVersion":"v1","items":[ {"metadata":{"name":"a"}}, {}]}`,
			`[{"kind":"Pod","apiVersion":"v1","metadata":{"name":"a"}} {"kind":"Pod","apiVersion":"v1"}]`},
		{"custom", `{"kind":"FooList","apiVersion":"x/v1","items":[{"kind":"Foo","apiVersion":"x/v2"}]}`, `[{"kind":"Foo","apiVersion":"x/v2"}]`},
		{"one object", `{"kind":"Pod","apiVersion":"v1"}`, `[{"kind":"Pod","apiVersion":"v1"}]`},
		{"one object, called a list", `{"kind":"AllowList","apiVersion":"x/v1"}`, `[{"kind":"AllowList","apiVersion":"x/v1"}]`},
		{"none", `{"kind":"PodList","apiVersion":"v1","items":[]}`, `[]`},
	} {
		t.Run(test.name, func(t *testing.T) {
			all, _, err := splitList([]byte(test.answer))
			if got := fmt.Sprintf("%s", all.Items); err != nil || got != test.want {
				t.Errorf("got %s, %v, want %s", got, err, test.want)
			}
		})
	}
}
