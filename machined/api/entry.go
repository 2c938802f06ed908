package api

import (
	"context"
	"fmt"
	"log/slog"
	"path"
	"runtime/debug"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/keelson-os/keelson/pkg/api/cluster"
	"github.com/keelson-os/keelson/pkg/api/image"
	"github.com/keelson-os/keelson/pkg/api/machine"
	"github.com/keelson-os/keelson/pkg/api/service"
)

// changing are the methods that change the node or hand out a credential: who
// called them is kept.
var changing = map[string]bool{
	machine.MachineService_Reboot_FullMethodName:     true,
	machine.MachineService_Shutdown_FullMethodName:   true,
	machine.MachineService_Reset_FullMethodName:      true,
	service.ServiceService_Start_FullMethodName:      true,
	service.ServiceService_Stop_FullMethodName:       true,
	service.ServiceService_Restart_FullMethodName:    true,
	cluster.ClusterService_Bootstrap_FullMethodName:  true,
	cluster.ClusterService_Recover_FullMethodName:    true,
	cluster.ClusterService_Kubeconfig_FullMethodName: true,
	image.ImageService_Import_FullMethodName:         true,
	image.ImageService_Remove_FullMethodName:         true,
}

// entry is what every call passes through: a handler's panic ends only its
// call, and changes are recorded with their caller.
type entry struct {
	log    *slog.Logger
	events *Events
}

func (e entry) unary(ctx context.Context, request any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (response any, err error) {
	e.record(ctx, info.FullMethod)
	defer e.recover(info.FullMethod, &err)
	return handler(ctx, request)
}

func (e entry) stream(server any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) (err error) {
	e.record(stream.Context(), info.FullMethod)
	defer e.recover(info.FullMethod, &err)
	return handler(server, stream)
}

func (e entry) record(ctx context.Context, method string) {
	if !changing[method] {
		return
	}
	by := callerOf(ctx).String()
	e.log.Info("api call", "method", path.Base(method), "by", by)
	e.events.Publish(KindAccess, path.Base(method), "called", "by "+by)
}

func (e entry) recover(method string, err *error) {
	value := recover()
	if value == nil {
		return
	}
	e.log.Error("panic", "task", method, "policy", "fail", "value", fmt.Sprint(value), "stack", string(debug.Stack()))
	*err = status.Errorf(codes.Internal, "%s: a bug in Keelson; the stack is in the machined log", path.Base(method))
}
