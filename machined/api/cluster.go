package api

import (
	"context"
	"errors"
	"io"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/keelson-os/keelson/pkg/api/cluster"
)

// Check is one result of Cluster.Health.
type Check struct {
	Name    string
	OK      bool
	Message string
}

// Cluster is the Kubernetes cluster as this node's stages know it.
type Cluster interface {
	// Bootstrap's errors say why this node cannot be bootstrapped (now).
	Bootstrap(ctx context.Context) error
	// Recover is a bootstrap with what a snapshot of etcd holds; its errors are
	// Bootstrap's, or statuses that say what is wrong with the snapshot.
	Recover(ctx context.Context, snapshot io.Reader) (revision, keys int64, err error)
	Health(ctx context.Context) []Check
	// Kubeconfig makes a client certificate for the user with what the roles
	// stand for, valid until the user's own expires or sooner.
	Kubeconfig(ctx context.Context, user string, roles []string, until time.Time) ([]byte, error)
	// Nodes are the cluster's nodes as this one last heard of them.
	Nodes() []*cluster.Node
}

type clusterService struct {
	cluster.UnimplementedClusterServiceServer
	late *late
}

func (s *clusterService) Bootstrap(ctx context.Context, _ *cluster.BootstrapRequest) (*cluster.BootstrapResponse, error) {
	target, err := s.late.getCluster()
	if err != nil {
		return nil, err
	}
	if err := target.Bootstrap(ctx); err != nil {
		return nil, precondition(err)
	}
	return &cluster.BootstrapResponse{}, nil
}

func (s *clusterService) Health(ctx context.Context, _ *cluster.HealthRequest) (*cluster.HealthResponse, error) {
	target, err := s.late.getCluster()
	if err != nil {
		return nil, err
	}
	response := &cluster.HealthResponse{Healthy: true}
	for _, check := range target.Health(ctx) {
		response.Healthy = response.Healthy && check.OK
		response.Checks = append(response.Checks, &cluster.Check{Name: check.Name, Ok: check.OK, Message: text(check.Message)})
	}
	return response, nil
}

func (s *clusterService) Kubeconfig(ctx context.Context, _ *cluster.KubeconfigRequest) (*cluster.KubeconfigResponse, error) {
	target, err := s.late.getCluster()
	if err != nil {
		return nil, err
	}
	caller := callerOf(ctx)
	kubeconfig, err := target.Kubeconfig(ctx, caller.User, caller.Roles, caller.Until)
	if err != nil {
		return nil, precondition(err)
	}
	return &cluster.KubeconfigResponse{Kubeconfig: kubeconfig}, nil
}

func (s *clusterService) Nodes(context.Context, *cluster.NodesRequest) (*cluster.NodesResponse, error) {
	target, err := s.late.getCluster()
	if err != nil {
		return nil, err
	}
	response := &cluster.NodesResponse{Nodes: target.Nodes()}
	for _, node := range response.Nodes {
		node.Message = text(node.Message)
	}
	return response, nil
}

// precondition is the code of a refusal that a later call may not meet.
func precondition(err error) error {
	if _, ok := status.FromError(err); ok {
		return err
	}
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		return status.FromContextError(err).Err()
	}
	return status.Error(codes.FailedPrecondition, err.Error())
}
