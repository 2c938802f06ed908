package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path"
	"time"

	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	etcdapi "github.com/keelson-os/keelson/pkg/api/etcd"
)

const (
	// maxRequest is bytes of one request; all of them are small.
	maxRequest = 64 << 10
	// maxStreams per connection. apid has one connection for all its clients.
	maxStreams = 64
	// stopGrace is how long calls under way may take once the process stops.
	stopGrace = time.Second
)

// listen makes the admin socket, for the process's own user and the group. A
// group of zero leaves it the one that its folder gives it.
func listen(socket string, group int) (net.Listener, error) {
	if err := os.Remove(socket); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("remove the admin socket of an earlier run: %w", err)
	}
	listener, err := net.Listen("unix", socket)
	if err != nil {
		return nil, fmt.Errorf("make the admin socket: %w", err)
	}
	if group != 0 {
		err = os.Chown(socket, -1, group)
	}
	if err := errors.Join(err, os.Chmod(socket, 0o660)); err != nil {
		listener.Close()
		return nil, fmt.Errorf("give the admin socket to its group: %w", err)
	}
	return listener, nil
}

// serve answers calls on the listener until ctx ends.
func (a *admin) serve(ctx context.Context, listener net.Listener) error {
	server := grpc.NewServer(
		grpc.MaxRecvMsgSize(maxRequest), grpc.MaxConcurrentStreams(maxStreams),
		grpc.UnaryInterceptor(func(ctx context.Context, request any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (_ any, err error) {
			defer a.survive(info.FullMethod, &err)
			return handler(ctx, request)
		}),
		grpc.StreamInterceptor(func(server any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) (err error) {
			defer a.survive(info.FullMethod, &err)
			return handler(server, stream)
		}),
	)
	etcdapi.RegisterEtcdServiceServer(server, a)
	defer context.AfterFunc(ctx, func() {
		cut := time.AfterFunc(stopGrace, server.Stop)
		defer cut.Stop()
		server.GracefulStop()
	})()
	if err := server.Serve(listener); err != nil {
		return fmt.Errorf("serve the admin API: %w", err)
	}
	return nil
}

// survive keeps a handler's panic from ending the member with it.
func (a *admin) survive(method string, err *error) {
	value := recover()
	if value == nil {
		return
	}
	a.log.Error("panic", zap.String("method", method), zap.Any("value", value), zap.Stack("stack"))
	*err = status.Errorf(codes.Internal, "%s: a bug in Keelson; the stack is in etcd's log", path.Base(method))
}
