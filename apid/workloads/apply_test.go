package workloads

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	workloadpb "github.com/keelson-os/keelson/pkg/api/workload"
)

const foreword = "# what this is\n"

func manifest(documents ...string) *workloadpb.Manifest {
	return &workloadpb.Manifest{Source: "web.yaml", Content: []byte(foreword + strings.Join(documents, "\n---\n"))}
}

func configMap(name string) string {
	return "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: " + name + "}\ndata: {a: b}"
}

const definition = `apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: foos.example.org}
spec: {group: example.org, names: {kind: Foo, plural: foos}}`

// Nothing that stands in a manifest may be left out without a word: with --prune it
// would be deleted.
func TestDocumentsThatFollowEachOther(t *testing.T) {
	one := func(name string) string {
		return `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"` + name + `"}}`
	}
	for content, want := range map[string]string{
		one("a") + "\n" + one("b"):                              "1 a, 2 b",
		one("a") + one("b"):                                     "1 a, 1 b",
		"\n  " + one("a") + "\n\n" + one("b") + "\n":            "2 a, 4 b",
		"--- " + one("a") + "\n--- " + one("b"):                 "1 a, 2 b",
		configMap("é") + "\n---\n" + one("a") + "\n" + one("b"): "1 é, 6 a, 7 b",
		one("a") + "}":                                          "x.yaml:1: more follows the end of the document",
		configMap("a") + "\n...\n" + configMap("b"):             "x.yaml:5: more follows the end of the document",
	} {
		documents, err := parse([]*workloadpb.Manifest{{Source: "x.yaml", Content: []byte(content)}})
		var found []string
		for _, d := range documents {
			found = append(found, fmt.Sprint(d.line, " ", d.object.GetName()))
		}
		if got := strings.Join(found, ", "); err == nil && got != want || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s\nread as %s, %v, want %s", content, got, err, want)
		}
	}
	for _, bad := range []string{`{"apiVersion": "v1",` + "\n" + `"kind": }`, `{"a": 1,` + "\n}"} {
		if _, err := parse([]*workloadpb.Manifest{{Source: "x.json", Content: []byte(bad)}}); err == nil || !strings.Contains(err.Error(), "x.json:2: invalid JSON: ") {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

func applyAll(t *testing.T, client workloadpb.WorkloadServiceClient, request *workloadpb.ApplyRequest) []string {
	t.Helper()
	stream, err := client.Apply(testContext(t), request)
	if err != nil {
		t.Fatal(err)
	}
	responses, err := collect(t, stream.Recv)
	if !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	var lines []string
	for _, response := range responses {
		r := response.GetResult()
		lines = append(lines, strings.TrimSpace(fmt.Sprintf("%s:%d %s %s %s %s", r.Source, r.Line, r.Object, r.Namespace, r.Action, r.Error)))
	}
	return lines
}

func TestApplyPutsFirstWhatOthersNeedAndTellsEachResult(t *testing.T) {
	f := newFakeAPI()
	client := f.serve(t)
	request := &workloadpb.ApplyRequest{Namespace: "team", Manifests: []*workloadpb.Manifest{manifest(
		configMap("settings"),
		"apiVersion: example.org/v1\nkind: Foo\nmetadata: {name: foo, namespace: team}",
		definition,
		"apiVersion: v1\nkind: Namespace\nmetadata: {name: team}",
	)}}
	want := []string{
		"web.yaml:16 namespace/team  created",
		"web.yaml:11 customresourcedefinition.apiextensions.k8s.io/foos.example.org  created",
		"web.yaml:2 configmap/settings team created",
		"web.yaml:7 foo.example.org/foo team created",
	}
	if got := applyAll(t, client, request); !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	for i := range want {
		want[i] = strings.Replace(want[i], "created", "unchanged", 1)
	}
	if got := applyAll(t, client, request); !slices.Equal(got, want) {
		t.Errorf("the second time: got\n%s", strings.Join(got, "\n"))
	}
	request.Manifests[0].Content = []byte(configMap("settings") + "\nimmutable: true")
	if got := applyAll(t, client, request); len(got) != 1 || !strings.HasSuffix(got[0], "configured") {
		t.Errorf("after a change: got %q", got)
	}
	if len(f.as) == 0 || slices.ContainsFunc(f.as, func(as string) bool { return as != "ada:keelson:operator" }) {
		t.Errorf("requests were made as %q", f.as)
	}
}

func TestANamespaceThatContradictsTheManifestsIsRefused(t *testing.T) {
	f := newFakeAPI()
	client := f.serve(t)
	manifests := []*workloadpb.Manifest{manifest(configMap("one"),
		"apiVersion: v1\nkind: Namespace\nmetadata: {name: team, namespace: of-no-meaning}",
		"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: two, namespace: prod}")}
	apply, err := client.Apply(testContext(t), &workloadpb.ApplyRequest{Namespace: "staging", Manifests: manifests})
	if err != nil {
		t.Fatal(err)
	}
	const want = `web.yaml:11: the namespace of ConfigMap two is "prod" and not "staging"`
	if _, err := apply.Recv(); status.Code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), want) {
		t.Errorf("apply: %v", err)
	}
	remove, err := client.Delete(testContext(t), &workloadpb.DeleteRequest{Namespace: "staging", Manifests: manifests})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := remove.Recv(); status.Code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), want) {
		t.Errorf("delete: %v", err)
	}
	if len(f.objects) != 0 {
		t.Errorf("changed: %v", f.objects)
	}
	if got := applyAll(t, client, &workloadpb.ApplyRequest{Namespace: "prod", Manifests: manifests}); len(got) != 3 {
		t.Errorf("in the namespace that they name: %v", got)
	}
}

func TestApplyReturnsTheObjectsOnRequest(t *testing.T) {
	for _, dryRun := range []bool{false, true} {
		stream, err := newFakeAPI().serve(t).Apply(testContext(t), &workloadpb.ApplyRequest{
			ReturnObjects: true, DryRun: dryRun, Manifests: []*workloadpb.Manifest{manifest(configMap("settings"), "apiVersion: nope/v1\nkind: Nope\nmetadata: {name: nope}")},
		})
		if err != nil {
			t.Fatal(err)
		}
		got, _ := collect(t, stream.Recv)
		if len(got) != 2 || !strings.Contains(string(got[0].GetJson()), `"uid":"uid-of-`) || len(got[1].GetJson()) != 0 {
			t.Errorf("dry run %v: got %v", dryRun, got)
		}
	}
}

func TestADryRunChangesNothing(t *testing.T) {
	f := newFakeAPI()
	client := f.serve(t)
	request := &workloadpb.ApplyRequest{DryRun: true, Manifests: []*workloadpb.Manifest{manifest(configMap("settings"))}}
	for range 2 {
		if got := applyAll(t, client, request); len(got) != 1 || !strings.HasSuffix(got[0], "created") {
			t.Errorf("got %q", got)
		}
	}
	if len(f.objects) != 0 {
		t.Errorf("objects %v", f.objects)
	}
}

func TestARefusedObjectStopsNoOther(t *testing.T) {
	f := newFakeAPI()
	f.refuse["PATCH /api/v1/namespaces/default/configmaps/bad"] = failure(http.StatusUnprocessableEntity, metav1.StatusReasonInvalid, `ConfigMap "bad" is invalid: data`)
	f.refuse["PATCH /api/v1/namespaces/default/configmaps/taken"] = failure(http.StatusConflict, metav1.StatusReasonConflict, `Apply failed with 1 conflict: conflict with "kubectl": .data.a`)
	got := applyAll(t, f.serve(t), &workloadpb.ApplyRequest{Manifests: []*workloadpb.Manifest{manifest(
		configMap("bad"), configMap("taken"), "apiVersion: nope/v1\nkind: Nope\nmetadata: {name: nope}",
		"apiVersion: apps/v1\nkind: Deploymnet\nmetadata: {name: web}", "apiVersion: v1\nkind: Deployment\nmetadata: {name: web}", configMap("good"),
	)}})
	want := []string{`"bad" is invalid: data`, `conflict with "kubectl": .data.a (apply with --force-conflicts`, "no kind Nope in nope/v1: apply its definition first, or check apiVersion and kind",
		"no kind Deploymnet in apps/v1: apply its definition first, or check apiVersion and kind; is it one of: Deployment (apps/v1)?",
		"no kind Deployment in v1: apply its definition first, or check apiVersion and kind; is it one of: Deployment (apps/v1)?", "created"}
	if len(got) != len(want) {
		t.Fatalf("got %q", got)
	}
	for i := range want {
		if !strings.Contains(got[i], want[i]) {
			t.Errorf("result %d: %q does not say %q", i, got[i], want[i])
		}
	}
}

func TestApplyTakesOverWhatKubectlApplied(t *testing.T) {
	f := newFakeAPI()
	live := object("v1", "ConfigMap", "settings")
	live["metadata"].(map[string]any)["managedFields"] = []any{map[string]any{
		"manager": "kubectl-client-side-apply", "operation": "Update", "apiVersion": "v1", "fieldsType": "FieldsV1",
		"fieldsV1": map[string]any{
			"f:data":     map[string]any{"f:a": map[string]any{}},
			"f:metadata": map[string]any{"f:annotations": map[string]any{"f:kubectl.kubernetes.io/last-applied-configuration": map[string]any{}}},
		},
	}}
	put := func() { f.put("/api/v1/namespaces/default/configmaps/settings", live, false) }
	client := f.serve(t)
	request := &workloadpb.ApplyRequest{Manifests: []*workloadpb.Manifest{manifest(configMap("settings"))}, DryRun: true}
	put()
	if applyAll(t, client, request); len(f.jsonPatches) != 0 {
		t.Errorf("a dry run changed %q", f.jsonPatches)
	}
	f.refuse["PATCH"] = failure(http.StatusConflict, metav1.StatusReasonConflict, `Apply failed with 1 conflict: conflict with "kubectl-client-side-apply": .data.a`)
	if got := applyAll(t, client, request); len(got) != 1 || !strings.HasSuffix(got[0], ".data.a (without a dry run, what kubectl applied is taken over first)") {
		t.Errorf("a dry run says %q", got)
	}
	delete(f.refuse, "PATCH")
	request.DryRun = false
	f.conflicts = 1
	if got := applyAll(t, client, request); len(got) != 1 || !strings.HasSuffix(got[0], "configured") {
		t.Errorf("got %q", got)
	}
	if len(f.jsonPatches) != 2 || !strings.Contains(f.jsonPatches[1], `"manager":"osctl","operation":"Apply"`) || strings.Contains(f.jsonPatches[1], "kubectl-client") {
		t.Errorf("patched with %q", f.jsonPatches)
	}
	// Now nothing is kubectl's.
	if applyAll(t, client, request); len(f.jsonPatches) != 2 {
		t.Errorf("patched again with %q", f.jsonPatches)
	}
	put()
	f.conflicts = 100
	if got := applyAll(t, client, request); len(got) != 1 || !strings.HasSuffix(got[0], "has been modified") || len(f.jsonPatches) != 2+takeOverTries {
		t.Errorf("got %q after %d tries", got, len(f.jsonPatches)-2)
	}
}

func TestApplyEndsWhenKubernetesDoesNotAnswer(t *testing.T) {
	f := newFakeAPI()
	f.refuse["GET /api/v1/namespaces/default/configmaps/a"] = failure(http.StatusServiceUnavailable, metav1.StatusReasonServiceUnavailable, "starting")
	stream, err := f.serve(t).Apply(testContext(t), &workloadpb.ApplyRequest{Manifests: []*workloadpb.Manifest{manifest(configMap("a"), configMap("b"))}})
	if err != nil {
		t.Fatal(err)
	}
	if results, err := collect(t, stream.Recv); len(results) != 0 || status.Code(err) != codes.Unavailable {
		t.Errorf("got %v, %v", results, err)
	}
}

func TestUnreadableManifestsAreNamedWithTheirLinesAndNothingIsApplied(t *testing.T) {
	for _, test := range []struct{ name, content, says string }{
		{"not YAML", configMap("good") + "\n---\napiVersion: v1\nkind: [ConfigMap\nmetadata: {}\n", "web.yaml:8: did not find expected"},
		{"key twice", configMap("good") + "\n---\n\napiVersion: v1\nkind: ConfigMap\nkind: Pod\n", `web.yaml:10: key "kind" already set`},
		{"no kind", "---\n\n# a comment\napiVersion: v1\nmetadata: {name: x}", "web.yaml:5: kind is missing"},
		{"no name", "apiVersion: v1\nkind: Pod", "web.yaml:2: metadata.name is missing"},
		{"no object", "hello", "web.yaml:2: not an object"},
		{"in a list", "apiVersion: v1\nkind: List\nitems: [{apiVersion: v1, kind: Pod, metadata: {name: a}}, {apiVersion: v1, kind: Pod}]", "web.yaml:2: metadata.name is missing (item 2 of the list)"},
		{"empty", "---\n# nothing\n---\n", "hold no object"},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := newFakeAPI()
			stream, err := f.serve(t).Apply(testContext(t), &workloadpb.ApplyRequest{Manifests: []*workloadpb.Manifest{manifest(test.content)}})
			if err != nil {
				t.Fatal(err)
			}
			_, err = stream.Recv()
			if status.Code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), test.says) {
				t.Errorf("got %v, want %q", err, test.says)
			}
			if f.count("PATCH") != 0 {
				t.Error("something was applied")
			}
		})
	}
}
