package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"time"

	"google.golang.org/grpc"

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
func listen(path string, group int) (net.Listener, error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("remove the admin socket of an earlier run: %w", err)
	}
	listener, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("make the admin socket: %w", err)
	}
	if group != 0 {
		err = os.Chown(path, -1, group)
	}
	if err := errors.Join(err, os.Chmod(path, 0o660)); err != nil {
		listener.Close()
		return nil, fmt.Errorf("give the admin socket to its group: %w", err)
	}
	return listener, nil
}

// serve answers calls on the listener until ctx ends.
func (a *admin) serve(ctx context.Context, listener net.Listener) error {
	server := grpc.NewServer(grpc.MaxRecvMsgSize(maxRequest), grpc.MaxConcurrentStreams(maxStreams))
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
