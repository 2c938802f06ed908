package main

import (
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/keelson-os/keelson/pkg/api/service"
	"github.com/keelson-os/keelson/pkg/api/workload"
)

func TestLogsAsksTheServiceOrThePod(t *testing.T) {
	services, pods := &fakeServices{}, &fakeWorkloads{}
	harness := newHarness(t, func(server *grpc.Server) {
		service.RegisterServiceServiceServer(server, services)
		workload.RegisterWorkloadServiceServer(server, pods)
	})
	for _, test := range []struct {
		args    []string
		service *service.LogsRequest
		pod     *workload.LogsRequest
		out     string
	}{
		{[]string{"etcd", "-f", "--tail", "5"}, &service.LogsRequest{Name: "etcd", Follow: true, Tail: new(uint32(5))}, nil, "line 0\nline 1\n"},
		{[]string{"etcd", "-f", "--tail=0"}, &service.LogsRequest{Name: "etcd", Follow: true, Tail: new(uint32)}, nil, "line 0\nline 1\n"},
		{[]string{"etcd", "--timestamps"}, &service.LogsRequest{Name: "etcd"}, nil,
			"2026-11-20T12:00:00.000Z line 0\n2026-11-20T12:00:01.000Z line 1\n"},
		{[]string{"etcd", "-o", "json"}, &service.LogsRequest{Name: "etcd"}, nil,
			`{"time":"2026-11-20T12:00:00.000Z","line":"line 0"}` + "\n" + `{"time":"2026-11-20T12:00:01.000Z","line":"line 1"}` + "\n"},
		{[]string{"etcd", "-o", "yaml"}, &service.LogsRequest{Name: "etcd"}, nil,
			"---\nline: line 0\ntime: \"2026-11-20T12:00:00.000Z\"\n---\nline: line 1\ntime: \"2026-11-20T12:00:01.000Z\"\n"},
		{[]string{"pod/web"}, nil, &workload.LogsRequest{Pod: "web"}, "from the pod\n"},
		{[]string{"web", "-c", "app", "-p"}, nil, &workload.LogsRequest{Pod: "web", Container: "app", Previous: true}, "from the pod\n"},
		{[]string{"pods/web", "-n", "shop", "--since", "1m", "--timestamps"}, nil,
			&workload.LogsRequest{Pod: "web", Namespace: "shop", SinceSeconds: 60, Timestamps: true}, "from the pod\n"},
		{[]string{"web", "app", "--tail=0"}, nil, &workload.LogsRequest{Pod: "web", Container: "app", Tail: new(int64)}, "from the pod\n"},
		{[]string{"deployment/web", "--all-pods", "--limit-bytes", "9"}, nil,
			&workload.LogsRequest{Pod: "deployment/web", AllPods: true, LimitBytes: 9}, "[pod/web-0/app] from the pod\n"},
		{[]string{"deployment/web", "--all-pods", "--prefix=false"}, nil,
			&workload.LogsRequest{Pod: "deployment/web", AllPods: true}, "from the pod\n"},
		{[]string{"-l", "app=web", "--tail=-1", "-f", "--max-log-requests=50", "--ignore-errors"}, nil,
			&workload.LogsRequest{LabelSelector: "app=web", Follow: true, MaxFollowed: 50, IgnoreErrors: true}, "from the pod\n"},
		{[]string{"-l", "app=web", "--tail=-1"}, nil, &workload.LogsRequest{LabelSelector: "app=web"}, "from the pod\n"},
		{[]string{"-l", "app=web", "--all-containers", "--prefix"}, nil,
			&workload.LogsRequest{LabelSelector: "app=web", AllContainers: true, Tail: new(int64(10))}, "[pod/web-0/app] from the pod\n"},
	} {
		services.logs, pods.logs = nil, nil
		if code := harness.run(t, append([]string{"logs"}, test.args...)...); code != exitOK || harness.out.String() != test.out {
			t.Errorf("%v: exit code %d, %q, %s", test.args, code, harness.out, harness.err)
		}
		if !proto.Equal(services.logs, test.service) || !proto.Equal(pods.logs, test.pod) {
			t.Errorf("%v: asked for %v and %v", test.args, services.logs, pods.logs)
		}
	}
	harness.fails(t, exitUsage, []string{"pod/NAME"}, "logs", "deployment/")
	harness.fails(t, exitUsage, []string{"-l"}, "logs")
	harness.fails(t, exitUsage, []string{"-l"}, "logs", "web", "-l", "app=web")
	harness.fails(t, exitUsage, []string{"2026-11-20T12:00:00Z"}, "logs", "pod/web", "--since-time", "noon")
	harness.fails(t, exitUsage, []string{"as its container wrote it"}, "logs", "pod/web", "-o", "json")
	harness.fails(t, exitUsage, []string{"--tail"}, "logs", "etcd", "--tail", "-2")
	harness.fails(t, exitUsage, []string{"twice"}, "logs", "web", "app", "-c", "app")
}
