package workloads

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	workloadpb "github.com/keelson-os/keelson/pkg/api/workload"
)

func TestDelete(t *testing.T) {
	for _, test := range []struct {
		name    string
		request *workloadpb.DeleteRequest
		want    []string
		left    int
	}{
		{"by name", &workloadpb.DeleteRequest{Selections: []*workloadpb.Selection{{Resource: "po", Names: []string{"web"}}}},
			[]string{"pod/web default deleted"}, 2},
		{"by name, waiting", &workloadpb.DeleteRequest{Wait: true, Selections: []*workloadpb.Selection{{Resource: "po", Names: []string{"web"}}}},
			[]string{"pod/web default deleted"}, 2},
		{"one missing", &workloadpb.DeleteRequest{Selections: []*workloadpb.Selection{{Resource: "pods", Names: []string{"x", "web"}}}},
			[]string{"pod/x default  /api/v1/namespaces/default/pods/x not found", "pod/web default deleted"}, 2},
		{"one missing, ignored", &workloadpb.DeleteRequest{IgnoreNotFound: true, Selections: []*workloadpb.Selection{{Resource: "pods", Names: []string{"x", "web"}}}},
			[]string{"pod/web default deleted"}, 2},
		{"all of a namespace", &workloadpb.DeleteRequest{All: true, Selections: []*workloadpb.Selection{{Resource: "pods"}}},
			[]string{"pod/db default deleted", "pod/web default deleted"}, 1},
		{"manifests, the last first", &workloadpb.DeleteRequest{Manifests: []*workloadpb.Manifest{manifest(
			"apiVersion: v1\nkind: Pod\nmetadata: {name: web}", "apiVersion: v1\nkind: Pod\nmetadata: {name: db}")}},
			[]string{"pod/db default deleted", "pod/web default deleted"}, 1},
		{"a kind that is not there", &workloadpb.DeleteRequest{IgnoreNotFound: true, Manifests: []*workloadpb.Manifest{manifest(
			"apiVersion: nope/v1\nkind: Nope\nmetadata: {name: web}")}}, nil, 3},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := withPods()
			f.objects["/api/v1/namespaces/default/pods/web"]["metadata"].(map[string]any)["namespace"] = "default"
			f.objects["/api/v1/namespaces/default/pods/db"]["metadata"].(map[string]any)["namespace"] = "default"
			stream, err := f.serve(t).Delete(testContext(t), test.request)
			if err != nil {
				t.Fatal(err)
			}
			responses, err := collect(t, stream.Recv)
			if !errors.Is(err, io.EOF) {
				t.Fatal(err)
			}
			var got []string
			for _, response := range responses {
				r := response.GetResult()
				got = append(got, strings.TrimSpace(fmt.Sprintf("%s %s %s %s", r.Object, r.Namespace, r.Action, r.Error)))
			}
			if !slices.Equal(got, test.want) || len(f.objects) != test.left {
				t.Errorf("got %q and %d objects left, want %q and %d", got, len(f.objects), test.want, test.left)
			}
		})
	}
}

func TestDeleteOfMoreThanAPage(t *testing.T) {
	f := withManyPods(pageSize + 1)
	stream, err := f.serve(t).Delete(testContext(t), &workloadpb.DeleteRequest{All: true, Selections: []*workloadpb.Selection{{Resource: "pods"}}})
	if err != nil {
		t.Fatal(err)
	}
	if responses, err := collect(t, stream.Recv); !errors.Is(err, io.EOF) || len(responses) != pageSize+1 || len(f.objects) > 0 {
		t.Errorf("%d deleted, %d left: %v", len(responses), len(f.objects), err)
	}
}

func TestDeleteRefusesToGuess(t *testing.T) {
	f := withPods()
	client := f.serve(t)
	for _, test := range []struct {
		says    string
		request *workloadpb.DeleteRequest
	}{
		{"nothing to delete", &workloadpb.DeleteRequest{}},
		{"would delete every pods", &workloadpb.DeleteRequest{Selections: []*workloadpb.Selection{{Resource: "pods"}}}},
		{"exclude each other", &workloadpb.DeleteRequest{All: true, Selections: []*workloadpb.Selection{{Resource: "pods", Names: []string{"web"}}}}},
		{"not both", &workloadpb.DeleteRequest{Selections: []*workloadpb.Selection{{Resource: "pods", Names: []string{"web"}}}, Manifests: []*workloadpb.Manifest{manifest(configMap("a"))}}},
	} {
		stream, err := client.Delete(testContext(t), test.request)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := stream.Recv(); status.Code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), test.says) {
			t.Errorf("got %v, want %q", err, test.says)
		}
	}
	if f.count("DELETE") != 0 {
		t.Error("something was deleted")
	}
}
