package api

import (
	"context"
	"errors"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/keelson-os/keelson/machined/supervise"
	"github.com/keelson-os/keelson/pkg/api/service"
)

// stopDeadline bounds a stop that a client asked for; it is above every
// service's own StopTimeout.
const stopDeadline = 2 * time.Minute

type serviceService struct {
	service.UnimplementedServiceServiceServer
	supervisor *supervise.Supervisor
}

func (s *serviceService) List(context.Context, *service.ListRequest) (*service.ListResponse, error) {
	var response service.ListResponse
	for _, one := range s.supervisor.List() {
		usage, err := s.supervisor.Usage(one.Name)
		if err != nil {
			return nil, serviceError(err)
		}
		response.Services = append(response.Services, describe(one, usage))
	}
	return &response, nil
}

func describe(one supervise.Status, usage supervise.Usage) *service.Service {
	described := &service.Service{
		Name: one.Name, State: string(one.State), Health: healths[one.Health], Message: text(one.Message),
		Pid: int32(one.PID), Restarts: uint32(one.Restarts), DependsOn: one.DependsOn,
		Memory: usage.Memory, MemoryAnonymous: usage.MemoryAnonymous, Cpu: durationpb.New(usage.CPU),
	}
	if !one.Since.IsZero() {
		described.Since = timestamppb.New(one.Since)
	}
	return described
}

var healths = map[supervise.Health]service.Service_Health{
	supervise.HealthUnknown: service.Service_HEALTH_UNKNOWN,
	supervise.Healthy:       service.Service_HEALTH_HEALTHY,
	supervise.Unhealthy:     service.Service_HEALTH_UNHEALTHY,
}

func (s *serviceService) Start(ctx context.Context, request *service.StartRequest) (*service.StartResponse, error) {
	return &service.StartResponse{}, serviceError(s.supervisor.Start(ctx, request.GetName()))
}

func (s *serviceService) Stop(ctx context.Context, request *service.StopRequest) (*service.StopResponse, error) {
	ctx, cancel := outliveCaller(ctx)
	defer cancel()
	return &service.StopResponse{}, serviceError(s.supervisor.Stop(ctx, request.GetName()))
}

func (s *serviceService) Restart(ctx context.Context, request *service.RestartRequest) (*service.RestartResponse, error) {
	ctx, cancel := outliveCaller(ctx)
	defer cancel()
	return &service.RestartResponse{}, serviceError(s.supervisor.Restart(ctx, request.GetName()))
}

// outliveCaller keeps a stop orderly when its caller goes away: the end of a
// stop's context would kill the service at once.
func outliveCaller(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), stopDeadline)
}

func (s *serviceService) Logs(request *service.LogsRequest, stream grpc.ServerStreamingServer[service.LogsResponse]) error {
	log, err := s.supervisor.Log(request.GetName())
	if err != nil {
		return serviceError(err)
	}
	tail := -1
	if request.Tail != nil {
		tail = int(request.GetTail())
	}
	return log.Read(stream.Context(), tail, request.GetFollow(), func(line supervise.Line) error {
		return stream.Send(&service.LogsResponse{Time: timestamppb.New(line.Time), Line: line.Text})
	})
}

// serviceError gives the supervisor's errors their gRPC codes.
func serviceError(err error) error {
	var unknown *supervise.UnknownServiceError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &unknown):
		return status.Error(codes.NotFound, err.Error())
	case errors.Is(err, supervise.ErrEssential), errors.Is(err, supervise.ErrStopping):
		return status.Error(codes.FailedPrecondition, err.Error())
	case errors.Is(err, context.DeadlineExceeded):
		return status.Error(codes.DeadlineExceeded, err.Error())
	default:
		return status.Error(codes.Internal, err.Error())
	}
}
