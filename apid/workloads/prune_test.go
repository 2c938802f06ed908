package workloads

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	workloadpb "github.com/keelson-os/keelson/pkg/api/workload"
)

// appliedBefore stores a ConfigMap as an earlier apply of the manager left it.
func (f *fakeAPI) appliedBefore(name, manager string, change func(metadata map[string]any)) {
	stored := object("v1", "ConfigMap", name)
	metadata := stored["metadata"].(map[string]any)
	metadata["namespace"] = "default"
	metadata["managedFields"] = []any{map[string]any{"manager": manager, "operation": "Apply", "apiVersion": "v1"}}
	if change != nil {
		change(metadata)
	}
	f.put("/api/v1/namespaces/default/configmaps/"+name, stored, false)
}

func TestPruneDeletesWhatWasAppliedBeforeOnly(t *testing.T) {
	f := newFakeAPI()
	f.appliedBefore("stale", "osctl", nil)
	f.appliedBefore("kept", "osctl", nil)
	f.appliedBefore("of-another-manager", "helm", nil)
	f.appliedBefore("owned", "osctl", func(metadata map[string]any) {
		metadata["ownerReferences"] = []any{map[string]any{"apiVersion": "v1", "kind": "Pod", "name": "x", "uid": "1", "controller": true}}
	})
	f.appliedBefore("ending", "osctl", func(metadata map[string]any) { metadata["deletionTimestamp"] = "2026-11-20T12:00:00Z" })
	f.appliedBefore("updated-by-hand", "osctl", func(metadata map[string]any) {
		metadata["managedFields"] = []any{map[string]any{"manager": "osctl", "operation": "Update", "apiVersion": "v1"}}
	})
	client := f.serve(t)
	lines := applyAll(t, client, &workloadpb.ApplyRequest{
		Manifests: []*workloadpb.Manifest{manifest(configMap("kept"))}, Prune: true, PruneSelector: "app=web",
	})
	if want := ":0 configmap/stale default pruned"; !slices.Contains(lines, want) || len(lines) != 2 {
		t.Errorf("got %q, want the manifest's object and %q", lines, want)
	}
	if n := f.count("DELETE "); n != 1 || f.count("DELETE /api/v1/namespaces/default/configmaps/stale") != 1 {
		t.Errorf("%d deletions", n)
	}
}

func TestPruneDeletesNothingAfterARefusal(t *testing.T) {
	f := newFakeAPI()
	f.appliedBefore("stale", "osctl", nil)
	f.refuse["PATCH /api/v1/namespaces/default/configmaps/b"] = failure(http.StatusForbidden, metav1.StatusReasonForbidden, "no")
	applyAll(t, f.serve(t), &workloadpb.ApplyRequest{
		Manifests: []*workloadpb.Manifest{manifest(configMap("a"), configMap("b"))}, Prune: true, PruneSelector: "app=web",
	})
	if n := f.count("DELETE "); n != 0 {
		t.Errorf("%d deletions", n)
	}
}

func TestPruneNeedsLabels(t *testing.T) {
	f := newFakeAPI()
	client := f.serve(t)
	for _, selector := range []string{"", "a in"} {
		stream, err := client.Apply(testContext(t), &workloadpb.ApplyRequest{
			Manifests: []*workloadpb.Manifest{manifest(configMap("a"))}, Prune: true, PruneSelector: selector,
		})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := stream.Recv(); status.Code(err) != codes.InvalidArgument {
			t.Errorf("%q: %v", selector, err)
		}
	}
	if f.count("PATCH ") != 0 {
		t.Error("something was applied")
	}
}

func TestLogsOfSeveral(t *testing.T) {
	f := withContainers()
	for _, name := range []string{"web", "db"} {
		pod := f.objects["/api/v1/namespaces/default/pods/"+name]
		pod["spec"] = map[string]any{"containers": []any{map[string]any{"name": "a"}, map[string]any{"name": "b"}}}
		for _, part := range []string{"log"} {
			f.objects["/api/v1/namespaces/default/pods/"+name+"/"+part] = map[string]any{"log": "of " + name}
		}
	}
	f.objects["/apis/apps/v1/namespaces/default/deployments/web"] = map[string]any{
		"apiVersion": "apps/v1", "kind": "Deployment", "metadata": map[string]any{"name": "web"},
		"spec": map[string]any{"selector": map[string]any{"matchLabels": map[string]any{"app": "web"}}},
	}
	client := f.serve(t)
	for _, test := range []struct {
		request *workloadpb.LogsRequest
		want    string
	}{
		{&workloadpb.LogsRequest{LabelSelector: "app=web", AllContainers: true}, "db/a db/b web/a web/b"},
		{&workloadpb.LogsRequest{LabelSelector: "app=web", Container: "b"}, "db/b web/b"},
		{&workloadpb.LogsRequest{Pod: "deployment/web"}, "web/a"}, // the one that runs,
		{&workloadpb.LogsRequest{Pod: "deployment/web", AllPods: true}, "db/a web/a"},
		{&workloadpb.LogsRequest{Pod: "pod/web", AllContainers: true}, "web/a web/b"},
	} {
		stream, err := client.Logs(testContext(t), test.request)
		if err != nil {
			t.Fatal(err)
		}
		parts, _ := collect(t, stream.Recv)
		var from []string
		for _, part := range parts {
			from = append(from, part.GetPod()+"/"+part.GetContainer())
			if data := string(part.GetData()); !strings.HasSuffix(data, "\n") || !strings.Contains(data, "of "+part.GetPod()) {
				t.Errorf("%v: %q from %s", test.request, data, part.GetPod())
			}
		}
		slices.Sort(from)
		if got := strings.Join(from, " "); got != test.want {
			t.Errorf("%v: from %s, want %s", test.request, got, test.want)
		}
	}
	for _, bad := range []*workloadpb.LogsRequest{
		{LabelSelector: "app=web", Pod: "web"},
		{Pod: "web", AllContainers: true, Container: "a"},
	} {
		stream, err := client.Logs(testContext(t), bad)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := stream.Recv(); status.Code(err) != codes.InvalidArgument {
			t.Errorf("%v: %v", bad, err)
		}
	}
}
