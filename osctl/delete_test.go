package main

import (
	"path/filepath"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/keelson-os/keelson/pkg/api/workload"
)

func TestDelete(t *testing.T) {
	harness, node := newWorkloadHarness(t)
	node.results = []*workload.ObjectResult{{Object: "pod/web", Action: "deleted"}}
	file := writeFile(t, filepath.Join(t.TempDir(), "web.yaml"), "x")
	for _, test := range []struct {
		args []string
		want []*workload.DeleteRequest
	}{
		{[]string{"pod", "web", "-n", "shop"}, []*workload.DeleteRequest{
			{Selections: []*workload.Selection{{Resource: "pod", Names: []string{"web"}, Namespace: "shop"}}, Wait: true, GracePeriodSeconds: -1}}},
		{[]string{"pod/a", "svc/b", "--wait=false", "--ignore-not-found"}, []*workload.DeleteRequest{
			{Selections: []*workload.Selection{{Resource: "pod", Names: []string{"a"}}, {Resource: "svc", Names: []string{"b"}}}, IgnoreNotFound: true, GracePeriodSeconds: -1}}},
		{[]string{"pod/a", "pod/b", "--force", "--grace-period=0"}, []*workload.DeleteRequest{
			{Selections: []*workload.Selection{{Resource: "pod", Names: []string{"a", "b"}}}, Wait: true}}},
		{[]string{"pods", "--all", "--grace-period", "0"}, []*workload.DeleteRequest{
			{Selections: []*workload.Selection{{Resource: "pods"}}, All: true, Wait: true, GracePeriodSeconds: 1}}},
		{[]string{"pods", "-l", "app=web"}, []*workload.DeleteRequest{
			{Selections: []*workload.Selection{{Resource: "pods", LabelSelector: "app=web"}}, Wait: true, GracePeriodSeconds: -1}}},
		{[]string{"-f", file}, []*workload.DeleteRequest{
			{Manifests: []*workload.Manifest{{Source: file, Content: []byte("x")}}, Wait: true, GracePeriodSeconds: -1}}},
	} {
		node.deleted = nil
		if code := harness.run(t, append([]string{"delete"}, test.args...)...); code != exitOK {
			t.Errorf("%v: exit code %d: %s", test.args, code, harness.err)
		}
		if len(node.deleted) != len(test.want) {
			t.Errorf("%v: asked for %v", test.args, node.deleted)
			continue
		}
		for i := range test.want {
			if !proto.Equal(node.deleted[i], test.want[i]) {
				t.Errorf("%v: asked for %v, want %v", test.args, node.deleted[i], test.want[i])
			}
		}
	}
	node.deleted = nil
	harness.fails(t, exitUsage, []string{"--all excludes"}, "delete", "pods", "web", "--all")
	harness.fails(t, exitUsage, []string{"--all excludes"}, "delete", "pods", "-l", "app=web", "--all")
	if len(node.deleted) != 0 {
		t.Errorf("deleted %v", node.deleted)
	}
	harness.fails(t, exitUsage, []string{"-f names the objects"}, "delete", "pods", "--all", "-f", file)
	node.results = []*workload.ObjectResult{{Object: "pod/web", Error: "pods \"web\" not found"}}
	harness.fails(t, exitError, []string{"pod/web: pods \"web\" not found", "the object was refused"}, "delete", "pod", "web")
	node.results = nil
	harness.fails(t, exitOK, []string{"nothing to delete"}, "delete", "pods", "--all")
}
