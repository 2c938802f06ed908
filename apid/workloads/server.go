package workloads

import (
	"context"
	"log/slog"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"k8s.io/client-go/rest"

	workloadpb "github.com/keelson-os/keelson/pkg/api/workload"
)

const (
	// requestTimeout bounds one request to the API server that answers once.
	requestTimeout = time.Minute
	// maxResponse is bytes of one answer of the API server. An answer is held up
	// to three times over, in maxLists calls at once, and apid's memory is 256 MiB.
	maxResponse = 16 << 20
	maxLists    = 3
	// defaultNamespace is where objects are that name no namespace.
	defaultNamespace = "default"
)

// Options are what the service needs from its process.
type Options struct {
	// Kubeconfig is the file that says how to reach the API server. It may
	// appear, and change, after start. Empty on a worker, where every call is
	// refused.
	Kubeconfig string
	// Caller tells as whom to ask Kubernetes on behalf of a call.
	Caller func(context.Context) (rest.ImpersonationConfig, error)
	Log    *slog.Logger
}

// Server implements WorkloadService.
type Server struct {
	workloadpb.UnimplementedWorkloadServiceServer
	caller func(context.Context) (rest.ImpersonationConfig, error)
	kube   *connector
	lists  places
	// tunnels has a place for each connection that Kubernetes carries.
	tunnels places
}

// New makes the service. It connects when the first call needs it.
func New(o Options) *Server {
	return &Server{
		caller: o.Caller,
		kube:   &connector{kubeconfig: o.Kubeconfig, log: o.Log},
		lists:  make(places, maxLists),

		tunnels: make(places, maxTunnels),
	}
}

// session is Kubernetes as the caller of one RPC sees it.
func (s *Server) session(ctx context.Context) (*session, error) {
	who, err := s.caller(ctx)
	if err != nil {
		return nil, err
	}
	cluster, err := s.kube.cluster()
	if err != nil {
		return nil, err
	}
	session, err := cluster.as(who)
	if err != nil {
		return nil, err
	}
	session.lists = s.lists
	return session, nil
}

// places are held by the calls that read large answers; others wait.
type places chan struct{}

// take waits for a place, until ctx ends, and returns what gives it back.
func (p places) take(ctx context.Context) (release func(), err error) {
	select {
	case p <- struct{}{}:
		return func() { <-p }, nil
	case <-ctx.Done():
		return nil, statusOf(ctx.Err())
	}
}

func invalid(format string, args ...any) error {
	return status.Errorf(codes.InvalidArgument, format, args...)
}

func orDefault(namespace string) string {
	if namespace == "" {
		return defaultNamespace
	}
	return namespace
}
