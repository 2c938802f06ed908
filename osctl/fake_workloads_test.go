package main

import (
	"context"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/keelson-os/keelson/pkg/api/workload"
)

// fakeWorkloads remembers what it was asked and answers with what it holds.
type fakeWorkloads struct {
	workload.UnimplementedWorkloadServiceServer
	get     func(*workload.GetRequest) (*workload.GetResponse, error)
	watch   []*workload.WatchResponse
	results []*workload.ObjectResult
	// objects are those that Apply returns, by their names in the results.
	objects map[string]string
	exec    func(workload.WorkloadService_ExecServer) error
	// kubernetes answers the call that carries connections.
	kubernetes func(workload.WorkloadService_KubernetesServer) error

	logs    *workload.LogsRequest
	applied *workload.ApplyRequest
	deleted []*workload.DeleteRequest
	watched *workload.WatchRequest
}

func (node *fakeWorkloads) Logs(request *workload.LogsRequest, stream workload.WorkloadService_LogsServer) error {
	node.logs = request
	return stream.Send(&workload.LogsResponse{Data: []byte("from the pod\n"), Pod: "web-0", Container: "app"})
}

func (node *fakeWorkloads) Get(_ context.Context, request *workload.GetRequest) (*workload.GetResponse, error) {
	return node.get(request)
}

func (node *fakeWorkloads) Watch(request *workload.WatchRequest, stream workload.WorkloadService_WatchServer) error {
	node.watched = request
	for _, change := range node.watch {
		if err := stream.Send(change); err != nil {
			return err
		}
	}
	return nil
}

func (node *fakeWorkloads) Apply(request *workload.ApplyRequest, stream workload.WorkloadService_ApplyServer) error {
	node.applied = request
	for _, result := range node.results {
		if err := stream.Send(&workload.ApplyResponse{Result: result, Json: []byte(node.objects[result.GetObject()])}); err != nil {
			return err
		}
	}
	return nil
}

func (node *fakeWorkloads) Delete(request *workload.DeleteRequest, stream workload.WorkloadService_DeleteServer) error {
	node.deleted = append(node.deleted, request)
	for _, result := range node.results {
		if err := stream.Send(&workload.DeleteResponse{Result: result}); err != nil {
			return err
		}
	}
	return nil
}

func (node *fakeWorkloads) Exec(stream workload.WorkloadService_ExecServer) error {
	return node.exec(stream)
}

func (node *fakeWorkloads) Kubernetes(stream workload.WorkloadService_KubernetesServer) error {
	if node.kubernetes == nil {
		return status.Error(codes.Unavailable, "no test expects this call")
	}
	return node.kubernetes(stream)
}

func newWorkloadHarness(t *testing.T) (*harness, *fakeWorkloads) {
	node := &fakeWorkloads{}
	return newHarness(t, func(server *grpc.Server) { workload.RegisterWorkloadServiceServer(server, node) }), node
}
