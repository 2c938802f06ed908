package main

import (
	"context"
	"fmt"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/keelson-os/keelson/pkg/api/service"
)

// fakeServices remembers what it was asked to do.
type fakeServices struct {
	service.UnimplementedServiceServiceServer
	services []*service.Service
	did      []string
	logs     *service.LogsRequest
}

func testServices() []*service.Service {
	return []*service.Service{
		{
			Name: "etcd", State: "running", Health: service.Service_HEALTH_HEALTHY, Pid: 84,
			Since: timestamppb.New(testNow.Add(-90 * time.Second)), Memory: 54 << 20, Cpu: durationpb.New(2345 * time.Millisecond),
		},
		{
			Name: "kubelet", State: "backoff", Health: service.Service_HEALTH_UNHEALTHY, Restarts: 3,
			Since: timestamppb.New(testNow.Add(-3 * time.Hour)), Message: "exit status 1; again in 8s",
		},
		{Name: "kube-proxy", State: "waiting", Health: service.Service_HEALTH_UNKNOWN, Message: "for kubelet"},
	}
}

func (node *fakeServices) List(context.Context, *service.ListRequest) (*service.ListResponse, error) {
	return &service.ListResponse{Services: node.services}, nil
}

func (node *fakeServices) act(what, name string) error {
	node.did = append(node.did, what+" "+name)
	if name != "etcd" {
		return status.Errorf(codes.NotFound, "no service %q; there are: etcd, kubelet", name)
	}
	return nil
}

func (node *fakeServices) Start(_ context.Context, request *service.StartRequest) (*service.StartResponse, error) {
	return &service.StartResponse{}, node.act("start", request.GetName())
}

func (node *fakeServices) Stop(_ context.Context, request *service.StopRequest) (*service.StopResponse, error) {
	return &service.StopResponse{}, node.act("stop", request.GetName())
}

func (node *fakeServices) Restart(_ context.Context, request *service.RestartRequest) (*service.RestartResponse, error) {
	return &service.RestartResponse{}, node.act("restart", request.GetName())
}

func (node *fakeServices) Logs(request *service.LogsRequest, stream service.ServiceService_LogsServer) error {
	node.logs = request
	for i := range 2 {
		line := &service.LogsResponse{Time: timestamppb.New(testNow.Add(time.Duration(i) * time.Second)), Line: fmt.Appendf(nil, "line %d", i)}
		if err := stream.Send(line); err != nil {
			return err
		}
	}
	return nil
}

func newServicesHarness(t *testing.T) (*harness, *fakeServices) {
	node := &fakeServices{services: testServices()}
	return newHarness(t, func(server *grpc.Server) { service.RegisterServiceServiceServer(server, node) }), node
}
