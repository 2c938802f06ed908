package workloads

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	workloadpb "github.com/keelson-os/keelson/pkg/api/workload"
)

func TestLogsAskForWhatTheCallerWants(t *testing.T) {
	f := withContainers()
	f.put("/api/v1/namespaces/default/pods/web/log", map[string]any{"metadata": map[string]any{}, "line": strings.Repeat("x", 2*chunkSize)}, false)
	client := f.serve(t)
	stream, err := client.Logs(testContext(t), &workloadpb.LogsRequest{Pod: "web"})
	if err != nil {
		t.Fatal(err)
	}
	chunks, err := collect(t, stream.Recv)
	if !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	size := 0
	for _, chunk := range chunks {
		size += len(chunk.GetData())
		if len(chunk.GetData()) > chunkSize {
			t.Errorf("a chunk of %d bytes", len(chunk.GetData()))
		}
	}
	if size < 2*chunkSize {
		t.Errorf("%d bytes came through", size)
	}
}

func TestLogsRequest(t *testing.T) {
	f := withContainers()
	kubeconfig := f.kubeconfig(t)
	cluster, err := open(kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	who, _ := ada(testContext(t))
	session, err := cluster.as(who)
	if err != nil {
		t.Fatal(err)
	}
	logs, err := session.logs(testContext(t), &workloadpb.LogsRequest{
		Pod: "web", Container: "b", Follow: true, Previous: true, Timestamps: true, Tail: new(int64(5)), SinceSeconds: 60,
	})
	if err != nil {
		t.Fatal(err)
	}
	want := "/api/v1/namespaces/default/pods/web/log?container=b&follow=true&previous=true&sinceSeconds=60&tailLines=5&timestamps=true"
	if got := logs[0].read.URL().RequestURI(); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// Only what is followed is read at once, and bounded.
func TestLogsOfManyPods(t *testing.T) {
	f := newFakeAPI()
	for i := range defaultFollowed + 1 {
		name := fmt.Sprintf("web-%02d", i)
		pod := object("v1", "Pod", name)
		pod["spec"] = map[string]any{"containers": []any{map[string]any{"name": "a"}}}
		f.put("/api/v1/namespaces/default/pods/"+name, pod, false)
		f.objects["/api/v1/namespaces/default/pods/"+name+"/log"] = map[string]any{"log": name}
	}
	client := f.serve(t)
	stream, err := client.Logs(testContext(t), &workloadpb.LogsRequest{LabelSelector: "app=web"})
	if err != nil {
		t.Fatal(err)
	}
	if parts, err := collect(t, stream.Recv); !errors.Is(err, io.EOF) || len(parts) != defaultFollowed+1 {
		t.Errorf("%d parts, %v", len(parts), err)
	}
	stream, err = client.Logs(testContext(t), &workloadpb.LogsRequest{LabelSelector: "app=web", Follow: true})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); status.Code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), "more than 20 pods") {
		t.Errorf("following: %v", err)
	}
	for most, want := range map[uint32]codes.Code{defaultFollowed + 1: codes.OK, maxFollowed + 1: codes.InvalidArgument} {
		stream, err = client.Logs(testContext(t), &workloadpb.LogsRequest{LabelSelector: "app=web", Follow: true, MaxFollowed: most})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := stream.Recv(); status.Code(err) != want {
			t.Errorf("following %d: %v", most, err)
		}
	}
}

func TestALogThatCannotBeReadMayBeIgnored(t *testing.T) {
	f := withContainers()
	for _, name := range []string{"web", "db"} {
		f.objects["/api/v1/namespaces/default/pods/"+name]["spec"] = map[string]any{"containers": []any{map[string]any{"name": "a"}}}
		f.objects["/api/v1/namespaces/default/pods/"+name+"/log"] = map[string]any{"log": name}
	}
	f.refuse["GET /api/v1/namespaces/default/pods/db/log"] = failure(http.StatusBadRequest, metav1.StatusReasonBadRequest, "container a is waiting to start")
	client := f.serve(t)
	for _, follow := range []bool{false, true} {
		for _, ignored := range []bool{false, true} {
			stream, err := client.Logs(testContext(t), &workloadpb.LogsRequest{LabelSelector: "app=web", Follow: follow, IgnoreErrors: ignored})
			if err != nil {
				t.Fatal(err)
			}
			parts, err := collect(t, stream.Recv)
			read, failed := 0, ""
			for _, part := range parts {
				if part.GetError() != "" {
					failed = part.GetPod() + ": " + part.GetError()
					continue
				}
				read++
			}
			switch {
			case ignored && (!errors.Is(err, io.EOF) || read != 1 || failed != "db: container a is waiting to start"):
				t.Errorf("follow %t: %d parts, failed %q, %v", follow, read, failed, err)
			case !ignored && status.Code(err) != codes.InvalidArgument:
				t.Errorf("follow %t, not ignored: %v", follow, err)
			}
		}
	}
}
