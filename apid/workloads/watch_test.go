package workloads

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	workloadpb "github.com/keelson-os/keelson/pkg/api/workload"
)

func event(t *testing.T, kind string, object any) string {
	t.Helper()
	text, err := json.Marshal(map[string]any{"type": kind, "object": object})
	if err != nil {
		t.Fatal(err)
	}
	return string(text) + "\n"
}

// stored is an object as the API server would send it.
func stored(name, version string) map[string]any {
	o := object("v1", "Pod", name)
	o["metadata"] = map[string]any{"name": name, "uid": "uid-of-/api/v1/namespaces/default/pods/" + name, "resourceVersion": version}
	return o
}

// watchLines receives n messages: their types, and the names in them.
func watchLines(t *testing.T, client workloadpb.WorkloadServiceClient, request *workloadpb.WatchRequest, n int) []string {
	t.Helper()
	stream, err := client.Watch(testContext(t), request)
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for range n {
		response, err := stream.Recv()
		if err != nil {
			t.Fatalf("after %q: %v", lines, err)
		}
		var answer struct {
			Kind     string
			Metadata metav1.ObjectMeta
			Rows     []metav1.TableRow
		}
		if err := json.Unmarshal(response.GetJson(), &answer); err != nil {
			t.Fatal(err)
		}
		names := []string{answer.Metadata.Name}
		if answer.Kind == "Table" {
			names = nil
			for _, row := range answer.Rows {
				names = append(names, row.Cells[0].(string))
			}
		}
		lines = append(lines, fmt.Sprintf("%s %s %s", response.GetType(), answer.Kind, strings.Join(names, ",")))
	}
	return lines
}

func TestWatchSendsWhatIsThereAndThenWhatChanges(t *testing.T) {
	f := withPods()
	f.watches = []string{
		event(t, "MODIFIED", stored("web", "10")) + event(t, "BOOKMARK", stored("", "11")) + event(t, "DELETED", stored("db", "12")),
	}
	got := watchLines(t, f.serve(t), &workloadpb.WatchRequest{
		Selection: &workloadpb.Selection{Resource: "pods"}, Output: workloadpb.Output_OUTPUT_OBJECTS,
	}, 4)
	if want := []string{"ADDED Pod db", "ADDED Pod web", "MODIFIED Pod web", "DELETED Pod db"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestWatchBeginsWithAllPages(t *testing.T) {
	const pods = 2*pageSize + 1
	for output, want := range map[workloadpb.Output]int{workloadpb.Output_OUTPUT_OBJECTS: pods, workloadpb.Output_OUTPUT_TABLE: 3} {
		for _, onlyChanges := range []bool{false, true} {
			f := withManyPods(pods)
			gone := event(t, "ERROR", failure(http.StatusGone, metav1.StatusReasonExpired, "too old resource version"))
			ended := stored(fmt.Sprintf("pod-%04d", pods-1), "10")
			ended["metadata"].(map[string]any)["uid"] = "uid-of-/api/v1/namespaces/default/pods/" + fmt.Sprintf("pod-%04d", pods-1)
			object := any(ended)
			if output == workloadpb.Output_OUTPUT_TABLE {
				object = tableOf("10", ended)
			}
			f.watches = []string{event(t, "DELETED", object) + gone}
			begins := want
			switch {
			case onlyChanges && output == workloadpb.Output_OUTPUT_TABLE:
				begins = 1
			case onlyChanges:
				begins = 0
			}
			// What was said to be gone is listed again after the gap, and nothing else.
			got := watchLines(t, f.serve(t), &workloadpb.WatchRequest{
				Selection: &workloadpb.Selection{Resource: "pods"}, Output: output, OnlyChanges: onlyChanges,
			}, begins+2)
			rows := 0
			for _, line := range got[:begins] {
				rows += strings.Count(line, "pod-")
			}
			if onlyChanges && rows != 0 || !onlyChanges && rows != pods {
				t.Errorf("%s, only changes %t: it begins with %d of %d pods", output, onlyChanges, rows, pods)
			}
			if !strings.HasPrefix(got[begins], "DELETED") || !strings.HasPrefix(got[begins+1], "ADDED") || strings.Count(got[begins+1], "pod-") != 1 {
				t.Errorf("%s, only changes %t: after the gap %q", output, onlyChanges, got[begins:])
			}
		}
	}
}

// The API server forgets a list before its last page was asked for.
func TestWatchBeginsAListAnewThatWasForgotten(t *testing.T) {
	for output, lines := range map[workloadpb.Output]int{
		workloadpb.Output_OUTPUT_OBJECTS: pageSize + 1, workloadpb.Output_OUTPUT_TABLE: 2, // a page, and the row that is left
	} {
		f := withManyPods(pageSize + 1)
		f.forgets = 1
		seen := map[string]int{}
		for _, line := range watchLines(t, f.serve(t), &workloadpb.WatchRequest{
			Selection: &workloadpb.Selection{Resource: "pods"}, Output: output,
		}, lines) {
			for _, name := range strings.Split(line[strings.LastIndex(line, " ")+1:], ",") {
				seen[name]++
			}
		}
		if len(seen) != pageSize+1 || f.forgets != 0 {
			t.Errorf("%s: %d pods, want %d", output, len(seen), pageSize+1)
		}
	}
}

func TestWatchOfChangesAlone(t *testing.T) {
	for output, want := range map[workloadpb.Output][]string{
		workloadpb.Output_OUTPUT_OBJECTS: {"MODIFIED Pod web"},
		workloadpb.Output_OUTPUT_TABLE:   {"ADDED Table ", "MODIFIED Table web"},
	} {
		f := withPods()
		object := any(stored("web", "10"))
		if output == workloadpb.Output_OUTPUT_TABLE {
			object = tableOf("10", object.(map[string]any))
		}
		f.watches = []string{event(t, "MODIFIED", object)}
		got := watchLines(t, f.serve(t), &workloadpb.WatchRequest{
			Selection: &workloadpb.Selection{Resource: "pods"}, Output: output, OnlyChanges: true,
		}, len(want))
		if !slices.Equal(got, want) {
			t.Errorf("%s: got %q, want %q", output, got, want)
		}
	}
}

// The API server forgets old versions: what changed meanwhile must be told as
// if the watch had gone on.
func TestWatchAfterAGapSendsTheDifference(t *testing.T) {
	gone := event(t, "ERROR", failure(http.StatusGone, metav1.StatusReasonExpired, "too old resource version"))
	for _, test := range []struct {
		name   string
		output workloadpb.Output
		change func(*testing.T, any) string
		want   []string
	}{
		{"objects", workloadpb.Output_OUTPUT_OBJECTS, func(t *testing.T, o any) string { return event(t, "ADDED", o) },
			[]string{"ADDED Pod db", "ADDED Pod web", "ADDED Pod brief", "DELETED Pod brief"}},
		{"table", workloadpb.Output_OUTPUT_TABLE, func(t *testing.T, o any) string {
			return event(t, "ADDED", tableOf("10", o.(map[string]any)))
		}, []string{"ADDED Table db,web", "ADDED Table brief", "DELETED Table brief"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := withPods()
			f.watches = []string{test.change(t, stored("brief", "10")) + gone}
			got := watchLines(t, f.serve(t), &workloadpb.WatchRequest{
				Selection: &workloadpb.Selection{Resource: "pods"}, Output: test.output,
			}, len(test.want))
			if !slices.Equal(got, test.want) {
				t.Errorf("got %q, want %q", got, test.want)
			}
			if f.count("GET /api/v1/namespaces/default/pods") < 3 {
				t.Error("the pods were not listed again")
			}
		})
	}
}

func TestWatchOfANameThatIsNotThere(t *testing.T) {
	stream, err := withPods().serve(t).Watch(testContext(t), &workloadpb.WatchRequest{
		Selection: &workloadpb.Selection{Resource: "pods", Names: []string{"wbe"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if response, err := stream.Recv(); status.Code(err) != codes.NotFound {
		t.Errorf("got %v, %v", response, err)
	}
}
